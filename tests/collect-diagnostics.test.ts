import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { unpackTar, waitFor } from "@mig/kit";
import { readText, type Unknown } from "@mig/protocol";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse, type Vm } from "./lib/house.ts";
import { type Fate, UploadProxy } from "./lib/upload-proxy.ts";

/** Bundles of diagnostics, from the order to the download, with real programs that are killed on the way. */
const token = "canary-Token-0123456789abcdefghij";
let house: House;
let proxy: UploadProxy;
let vm: Vm;
beforeAll(async () => {
  house = await openHouse();
  proxy = await UploadProxy.open(house.url);
  vm = await house.startVm("vm-1", {
    channel: "poll",
    reuse: true,
    env: {
      MIGLET_CONTROLLER_ENDPOINT: proxy.url,
      MIGLET_CONTROLLER_AUTH_TOKEN: token,
      MIGLET_CONTROLLER_AUTH_TYPE: "bearer",
      MIGLET_CONTROLLER_RETRY_MAX_BACKOFF: "1s",
    },
    settings: ["logging: { level: debug }"],
  });
  await house.until("vm-1", "state", "idle");
});
afterAll(async () => {
  proxy.close();
  await house[Symbol.asyncDispose]();
});

const order = async (parameters: object = {}, vmId = "vm-1"): Promise<string> =>
  String(readText(await house.order(vmId, "collect_diagnostics", parameters), "id"));
const ended = (id: string): Promise<Unknown> =>
  waitFor(
    "the command to end",
    async () => {
      const { body } = await house.api("GET", `commands/${id}`).catch(() => ({ body: {} as Unknown }));
      return body["finished_at"] == null ? undefined : body;
    },
    { timeoutMs: 30_000 },
  );
const listed = async (): Promise<Unknown[]> =>
  (await house.api("GET", "vms/vm-1/diagnostics")).body["diagnostics"] as Unknown[];
async function take(id: string): Promise<Record<string, string>> {
  const answer = await fetch(`${house.url}/api/v1/vms/vm-1/diagnostics/${id}`);
  expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/gzip"]);
  const files = unpackTar(gunzipSync(Buffer.from(await answer.arrayBuffer())));
  return Object.fromEntries(files.map(({ name, content }) => [name, content.toString("latin1")]));
}
/** How often a controller was told the end of a command and took it. */
const timesAnswered = (controllers: readonly { lines: readonly Unknown[] }[], id: string): number =>
  controllers
    .flatMap(({ lines }) => lines)
    .filter(
      (line) =>
        line["msg"] === "a command was answered" &&
        line["command_id"] === id &&
        line["state"] !== "acknowledged",
    ).length;

it("shows a VM with a job from all sides, and none of its secrets", async () => {
  const jit = await jitOfListener(vm.home);
  expect(jit.length).toBeGreaterThan(100);
  const steps = [{ name: "Hang", run: "sleep 20\n" }];
  await house.github.queueJob({ overrides: { steps } });
  await house.until("vm-1", "state", "running");
  const diag = join(vm.home, "actions-runner", "_diag", "Worker_29991231-000000-utc.log");
  await appendFile(diag, `a job says ${token}\nand ${jit}\nand what it waits for\n`);
  const id = await order({ reason: "it hangs" });
  const command = await ended(id);
  expect(command).toMatchObject({
    state: "succeeded",
    result: { bytes: expect.any(Number), truncated: false },
  });
  const files = await take(id);
  expect(await listed()).toMatchObject([
    { command_id: id, command_state: "succeeded", files: Object.keys(files) },
  ]);
  expect(JSON.parse(files["manifest.json"] ?? "")).toMatchObject({ command_id: id, reason: "it hangs" });
  expect(JSON.parse(files["agent/status.json"] ?? "")).toMatchObject({
    state: "job_running",
    channel: "poll",
  });
  expect(files["agent/log.jsonl"]).toContain("The agent has moved on.");
  expect(files["runner/processes.tsv"]?.trim().split("\n").length).toBeGreaterThan(3);
  expect(files["runner/_diag/Worker_29991231-000000-utc.log"]).toContain("and what it waits for");
  expect(Object.keys(files).some((name) => name.startsWith("runner/_diag/Runner_"))).toBe(true);
  const seen: Record<string, string> = { bundle: JSON.stringify(files), log: JSON.stringify(vm.agent.lines) };
  seen["command"] = JSON.stringify(command);
  for (const [where, text] of Object.entries(seen))
    for (const secret of [token, jit, jit.slice(-60)]) expect(text, where).not.toContain(secret);
  expect(JSON.stringify(house.controller.lines)).not.toContain("and what it waits for");
}, 60_000);

it("survives a controller that is killed between the upload and the result: stored once, answered once", async () => {
  const first = house.controller;
  const before = proxy.uploads.length;
  proxy.fate = async (): Promise<Fate> => {
    first.kill("SIGKILL");
    await first.ended();
    proxy.fate = () => "pass";
    return "lose";
  };
  const id = await order();
  await first.ended(30_000);
  await house.restartController();
  expect(await ended(id)).toMatchObject({ state: "succeeded" });
  const uploads = proxy.uploads.slice(before);
  expect(uploads.length).toBeGreaterThan(1);
  expect(new Set(uploads).size).toBe(1);
  expect((await listed()).filter((one) => one["command_id"] === id)).toHaveLength(1);
  expect(timesAnswered([first, house.controller], id)).toBe(1);
  expect(await take(id)).toHaveProperty(["manifest.json"]);
}, 60_000);

it("an agent that is killed while it collects answers once when it is back, and collects again when asked", async () => {
  const before = proxy.uploads.length;
  proxy.fate = () => "hold";
  const id = await order();
  await waitFor("the upload", () => proxy.uploads.length > before);
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  proxy.fate = () => "pass";
  vm.restart();
  expect(await ended(id)).toMatchObject({
    state: "failed",
    message: expect.stringContaining("order them again"),
  });
  expect(timesAnswered([house.controller], id)).toBe(1);
  expect(await ended(await order())).toMatchObject({ state: "succeeded" });
  expect(await ended(await order({ max_bytes: 1 }))).toMatchObject({
    state: "rejected",
    message: expect.stringContaining("max_bytes"),
  });
}, 60_000);

it("a VM that knows the address of gRPC alone brings its bundle there", async () => {
  const other = await house.startVm("vm-grpc", { channel: "grpc" });
  await house.until("vm-grpc", "state", "idle");
  other.agent.kill("SIGKILL");
  await other.agent.ended();
  const file = join(other.home, "miglet.yaml");
  const grpc = `grpc_endpoint: "${new URL(house.url).host}"`;
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replace(/endpoint: "[^"]*"/, grpc));
  other.restart();
  expect(await ended(await order({}, "vm-grpc"))).toMatchObject({ state: "succeeded" });
}, 60_000);

/** What the agent gave to the Listener, from where only its own user can read it. */
async function jitOfListener(home: string): Promise<string> {
  const { pid } = JSON.parse(await readFile(join(home, "state", "state.json"), "utf8")).runner;
  const environ = await readFile(`/proc/${pid}/environ`, "utf8");
  return /ACTIONS_RUNNER_INPUT_JITCONFIG=([^\0]+)/.exec(environ)?.[1] ?? "";
}
