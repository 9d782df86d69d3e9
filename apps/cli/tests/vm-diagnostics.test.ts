import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { packTar, unpackTar } from "@mig/kit";
import { writeContentDigest } from "@mig/protocol";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../../controller/tests/identity-lab.ts";
import { call } from "../../controller/tests/open-test-listeners.ts";
import { openHome } from "./migctl-lab.ts";

/** `migctl vm diagnostics` and `vm logs`, against a controller and a VM that answers over the agent's own routes. */
let lab: IdentityLab;
let token: string;
const stops: (() => Promise<void>)[] = [];
const { home, run: start } = openHome();
const run = (...args: string[]) => start(args, { env: { MIG_URL: lab.url, MIG_API_KEY: key } });
let key: string;
beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
  key = await lab.key({ role: "operator" });
  token = (await lab.machine("vm-1").join(await lab.joinToken({ pool_id: "pool-a" }))).body.access_token;
  await agent("POST", "heartbeat", {});
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

const agent = (method: string, path: string, json?: object) =>
  call(`${lab.url}/api/v1/vms/vm-1/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    ...(json === undefined ? {} : { json }),
  });

const bundleOf = (logs: Record<string, string>): Buffer =>
  gzipSync(
    packTar(
      Object.entries(logs).map(([name, text]) => ({ name, content: Buffer.from(text) })),
      0,
    ),
  );
const usual = bundleOf({
  "manifest.json": "{}\n",
  "agent/log.jsonl": '{"msg":"one"}\n{"msg":"two"}\n{"msg":"three"}\n',
  "runner/_diag/Runner_1.log": "Listening\n",
  "runner/_diag/Worker_1.log": "\u001b[2Jcleared \u001b]0;title\u0007\u202ereversed\n",
});

/** The next command of the VM, taken and answered as an agent does. */
async function obey(content: Buffer | undefined): Promise<string> {
  const { commands } = (await agent("GET", "commands?wait=20s")).body;
  const { id } = commands[0];
  await agent("POST", `commands/${id}/ack`, { stage: "received", success: true });
  if (content === undefined) {
    await agent("POST", `commands/${id}/ack`, { stage: "result", success: false, message: "no disk" });
    return id;
  }
  const sha256 = createHash("sha256").update(content).digest("hex");
  const stored = await call(`${lab.url}/api/v1/vms/vm-1/diagnostics/${id}`, {
    method: "PUT",
    body: content,
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/gzip",
      "content-digest": writeContentDigest(sha256),
    },
  });
  expect(stored.status).toBe(200);
  const files = content === usual ? unpackTar(gunzipSync(content)).map(({ name }) => name) : [];
  const result = { bytes: content.length, sha256, files, truncated: false };
  await agent("POST", `commands/${id}/ack`, { stage: "result", success: true, result });
  return id;
}

it("collects, waits, tells how far it is, and saves for the owner's eyes only", async () => {
  expect((await run("vm", "diagnostics", "vm-1", "--list")).out).toContain("Nothing was collected");
  const path = join(home, "vm-1.tar.gz");
  const [said, id] = await Promise.all([
    run("vm", "diagnostics", "vm-1", "-o", path, "--reason", "it hangs"),
    obey(usual),
  ]);
  expect([said.code, said.out]).toEqual([
    0,
    `${path}: ${usual.length} bytes, 4 files\nLook into it: tar -tzf ${path}\n`,
  ]);
  expect(said.err).toMatch(/^vm-1: the order (?:waits|is on its way)(?:.*\n)+vm-1: the bundle is here\n$/);
  expect(readFileSync(path)).toEqual(usual);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const command = (await lab.api("GET", `commands/${id}`)).body;
  expect(command.parameters).toEqual({ reason: "it hangs" });

  const listed = JSON.parse((await run("vm", "diagnostics", "vm-1", "--list", "--json")).out);
  expect(listed.diagnostics).toMatchObject([{ command_id: id, truncated: false }]);
  const again = await run("vm", "diagnostics", "vm-1", "--id", id, "-o", join(home, "again"), "--json");
  expect([again.err, JSON.parse(again.out)]).toMatchObject(["", { command_id: id, bytes: usual.length }]);
  mkdirSync(join(home, "folder"));
  const nowhere = await run("vm", "diagnostics", "vm-1", "--id", id, "-o", join(home, "folder"));
  expect([nowhere.code, nowhere.err]).toEqual([1, expect.stringContaining("EISDIR")]);
});

it("prints the agent's log or the runner's, fresh or the last, and nothing that a terminal would obey", async () => {
  const last = await run("vm", "logs", "vm-1", "--last", "--tail", "2");
  expect([last.code, last.err, last.out]).toEqual([0, "", '{"msg":"two"}\n{"msg":"three"}\n']);
  const [fresh] = await Promise.all([run("vm", "logs", "vm-1", "--runner"), obey(usual)]);
  expect(fresh.out).toBe(
    "==> runner/_diag/Runner_1.log <==\nListening\n==> runner/_diag/Worker_1.log <==\ncleared \u{FFFD}reversed\n",
  );
  const json = JSON.parse((await run("vm", "logs", "vm-1", "--last", "--json")).out);
  expect(json.logs).toEqual([
    { name: "agent/log.jsonl", lines: ['{"msg":"one"}', '{"msg":"two"}', '{"msg":"three"}'] },
  ]);
});

it("says why there is none: the VM could not, it did not come in time, it is no bundle, the words are wrong", async () => {
  const [failed] = await Promise.all([run("vm", "logs", "vm-1"), obey(undefined)]);
  expect([failed.code, failed.out, failed.err]).toEqual([1, "", expect.stringContaining("no disk")]);
  const [odd] = await Promise.all([run("vm", "logs", "vm-1"), obey(gzipSync("no archive"))]);
  expect([odd.code, odd.out, odd.err]).toEqual([
    1,
    "",
    expect.stringContaining("no bundle that migctl can read"),
  ]);
  const [bare] = await Promise.all([run("vm", "logs", "vm-1", "--runner"), obey(bundleOf({ a: "b" }))]);
  expect([bare.code, bare.err]).toEqual([1, expect.stringContaining("has no such log")]);
  const late = await run("vm", "diagnostics", "vm-1", "--timeout", "1s", "-o", join(home, "late"));
  expect([late.code, late.err]).toEqual([1, expect.stringMatching(/in time|expired/)]);
  expect(existsSync(join(home, "late"))).toBe(false);
  for (const wrong of [
    ["--timeout", "soon"],
    ["--tail", "0"],
    ["--tail", "x"],
  ])
    expect((await run("vm", "logs", "vm-1", ...wrong)).code).toBe(2);
  expect((await run("vm", "logs", "vm-9", "--last")).code).toBe(1);
  const queued = await run("vm", "diagnostics", "vm-2", "--no-wait", "--json");
  expect(JSON.parse(queued.out)).toMatchObject({ type: "collect_diagnostics", state: "pending" });
});
