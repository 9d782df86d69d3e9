import { spawn } from "node:child_process";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../../controller/tests/identity-lab.ts";
import { bin, openHome } from "./migctl-lab.ts";
import { type AgentCall, joinVms } from "./vms-lab.ts";

/** `migctl feed` and `migctl vm watch` against a whole controller, as a person has them: in a terminal, until Ctrl-C. */
let lab: IdentityLab;
let env: Record<string, string>;
let agent: AgentCall;
const stops: (() => Promise<void>)[] = [];
const { run } = openHome();

beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
  env = { MIG_URL: lab.url, MIG_API_KEY: await lab.key({ role: "operator" }) };
  agent = await joinVms(lab, ["vm-1", "vm-2"]);
  for (const vmId of ["vm-1", "vm-2"]) await tell(vmId, "vm_started");
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

let told = 0;
async function tell(vmId: string, type: string): Promise<void> {
  told += 1;
  const json = { type, vm_id: vmId, event_id: `e-${told}`, timestamp: new Date().toISOString() };
  expect((await agent(vmId, "events", json)).status).toBe(200);
}
const order = (vmId: string) =>
  lab.api("POST", `vms/${vmId}/commands`, { type: "set_log_level", parameters: { level: "debug" } });

/** A migctl that goes on until it is told to end. */
function start(args: readonly string[], columns?: number, more: Record<string, string> = {}) {
  const line = `stty cols ${columns}; exec '${process.execPath}' '${bin}' ${args.join(" ")}`;
  const [file, given] =
    columns === undefined ? [process.execPath, [bin, ...args]] : ["script", ["-qec", line, "/dev/null"]];
  const child = spawn(file, given, { env: { PATH: process.env["PATH"], ...env, ...more } });
  let out = "";
  child.stdout.on("data", (data: Buffer) => {
    out += data.toString();
  });
  return {
    out: () => out,
    /** However it is folded. */
    said: (what: string) => waitFor(`"${what}"`, () => out.replaceAll(/\s+/g, " ").includes(what)),
    press: (key: string) => child.stdin.write(key),
    stop: () => child.kill("SIGINT"),
    ended: () => waitFor("the end", () => child.exitCode !== null).then(() => child.exitCode),
  };
}

it("in a narrow terminal: each change folded, none cut, until Ctrl-C", async () => {
  const feed = start(["vm", "watch", "vm-1"], 40, { NO_COLOR: "1" });
  await feed.said("vm-1 initializing, online");
  const { id } = (await order("vm-1")).body;
  await feed.said("set_log_level is pending");
  await tell("vm-1", "runner_registered");
  await feed.said("initializing → idle");
  await feed.said("told runner_registered");
  await waitFor("the whole id", () => feed.out().replaceAll(/\s+/g, "").includes(id));
  feed.press("\u0003");
  expect(await feed.ended()).toBe(0);
  expect(feed.out()).not.toContain("\u001b");
  for (const one of feed.out().split(/\r?\n/)) expect(one.length).toBeLessThanOrEqual(40);
});

it("vm watch ends with 0 when the VM has ended, and with 1 where there is none", async () => {
  const watch = start(["vm", "watch", "vm-2", "--json"]);
  await watch.said('"now"');
  await tell("vm-2", "vm_shutting_down");
  await tell("vm-2", "vm_terminated");
  expect(await watch.ended()).toBe(0);
  const lines = watch
    .out()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines[0]).toMatchObject({ type: "now", now: { vm_id: "vm-2" } });
  expect(lines.at(-1)).toMatchObject({ type: "vm", vm: { state: "terminated" } });
  expect(lines.filter(({ type }) => type === "event").map(({ event }) => event.type)).toContain(
    "vm_shutting_down",
  );
  const none = await run(["vm", "watch", "vm-none"], { env });
  expect([none.code, none.err]).toEqual([1, expect.stringContaining("there is no VM vm-none")]);
});

it("feed --json gives cursors to go on from; filters hold", async () => {
  const feed = start(["feed", "--json", "--types", "command"]);
  // Only what comes from now on: something does until the feed is there.
  await waitFor("the first", async () => {
    await order("vm-1");
    return feed.out().includes("\n");
  });
  feed.stop();
  expect(await feed.ended()).toBe(0);
  const [first] = feed
    .out()
    .split("\n")
    .map((line) => (line === "" ? undefined : JSON.parse(line)));
  expect(first).toMatchObject({ type: "command", vm_id: "vm-1", cursor: expect.stringMatching(/^\w+$/) });
  const { id } = (await order("vm-1")).body;
  const again = start(["feed", "--json", "--types", "command", "--after", first.cursor]);
  await again.said(id);
  again.stop();
  expect(await again.ended()).toBe(0);
});

it("a feed that breaks is made again from its cursor; what was missed is told", async () => {
  const asked: (string | null)[] = [];
  const say = (response: ServerResponse, event: string, id: string, data: object): void =>
    void response.write(`event: ${event}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`);
  const fleet = { id: "o-1", type: "drain", state: "running", progress: { total: 1 } };
  const at = "2026-11-21T10:00:00Z";
  const server = createServer((request, response) => {
    asked.push(new URL(request.url ?? "", "http://x").searchParams.get("after"));
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 10\n\n");
    if (asked.length === 1) {
      say(response, "hello", "c-0", {});
      // An item in two pieces, a newer cursor without an item, and then the line is cut.
      response.write(`event: fleet\nid: c-1\ndata: {"type":"fleet","at":"${at}",`);
      setImmediate(() => {
        response.write(`"fleet":${JSON.stringify(fleet)}}\n\n: ping\nid: c-2\n\n`, () => response.destroy());
      });
    } else {
      say(response, "reset", "c-9", { message: "look again" });
      say(response, "fleet", "c-10", { type: "fleet", at, fleet: { ...fleet, state: "done" } });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const feed = start(["feed", "--url", url]);
    await feed.said("drain is done");
    feed.stop();
    expect(await feed.ended()).toBe(0);
    expect(asked).toEqual([null, "c-2"]);
    expect(feed.out()).toMatch(
      /^10:00:00 fleet drain is running: 0\/1.*\n-- connection lost: .*\n-- missed some: look again\n10:00:00 fleet drain is done/,
    );
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

it.each([
  [["feed", "--types", "vms"], 2, "--types"],
  [["feed", "--after", "nonsense"], 1, "cursor"],
  [["feed", "--url", "http://127.0.0.1:1"], 1, "does not answer"],
])("%j is refused", async (args, expected, problem) => {
  const { code, err } = await run(args, { env });
  expect([code, err]).toEqual([expected, expect.stringContaining(problem)]);
});
