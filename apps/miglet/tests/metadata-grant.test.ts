import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import {
  type AwsMetadata,
  type GcpMetadata,
  type RunnerOptions,
  startAwsMetadata,
  startGcpMetadata,
} from "@mig/sandbox";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Lab } from "../../../packages/sandbox/tests/lab.ts";
import { TinyController } from "./tiny-controller.ts";

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));

/** Real agents that nobody sends register_runner: what lets them register lies in the metadata of their instance. */
let lab: Lab;
let controller: TinyController;
let gcp: GcpMetadata;
let aws: AwsMetadata;
const children: ChildProcess[] = [];

beforeEach(async () => {
  lab = await Lab.open({ pollMs: 300 });
  [controller, gcp, aws] = await Promise.all([TinyController.open(), startGcpMetadata(), startAwsMetadata()]);
});
afterEach(async () => {
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill("SIGKILL");
  const record = (await readState().catch(() => ({}))) as { runner?: { pid: number } };
  try {
    if (record.runner !== undefined) process.kill(-record.runner.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
  await Promise.all([controller.close(), gcp.close(), aws.close()]);
  await lab.close();
});

const readState = async () => JSON.parse(await readFile(join(lab.folder, "state", "state.json"), "utf8"));

async function boot(cloud: "gcp" | "aws", options: RunnerOptions = {}) {
  const runner = await lab.install(options);
  const configPath = join(lab.folder, "miglet.yaml");
  await mkdir(join(lab.folder, "state"));
  await writeFile(
    configPath,
    `pool_id: pool-1
vm_id: vm-1
state_dir: ${join(lab.folder, "state")}
controller:
  endpoint: ${controller.url}
  channel: poll
  retry: { initial_backoff: 50ms, max_backoff: 200ms }
metadata: { source: ${cloud}, endpoint: "${cloud === "gcp" ? gcp.url : aws.url}" }
github: { token_source: metadata, metadata_interval: 1s, runner_url: "${lab.github.webUrl}/acme" }
runner: { dir: "${runner.root}", allow_root: true }
heartbeat: { interval: 1s }
prerequisites: { disk_free_mib: 1 }
`,
  );
  const child = spawn(process.execPath, [program, "--config", configPath], {
    env: { PATH: process.env["PATH"], HOME: lab.folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      log += text;
    });
  const exited = new Promise<number | string>((resolve) => {
    child.once("close", (code, signal) => resolve(signal ?? code ?? -1));
  });
  return { exited, log: () => log };
}

const grantOf = (token: string, minutes: number): string =>
  JSON.stringify({
    registration_token: token,
    runner_url: `${lab.github.webUrl}/acme`,
    labels: ["self-hosted", "linux"],
    expires_at: new Date(Date.now() + minutes * 60_000).toISOString(),
  });

it("a VM that boots while the controller is away runs its job, and tells it later", async () => {
  const token = await lab.token();
  gcp.setAttribute("github-registration_token", grantOf(token, 60));
  controller.isUp = false;
  const agent = await boot("gcp");
  const { id } = await lab.github.queueJob({ scenario: "ok", overrides: { durationMs: 300 } });
  await lab.jobIs(id, "completed");
  expect(controller.events).toEqual([]);
  controller.isUp = true;
  expect(await agent.exited).toBe(0);
  expect(controller.types()).toEqual([
    "vm_started",
    "runner_registered",
    "job_started",
    "job_completed",
    "vm_shutting_down",
    "vm_terminated",
  ]);
  expect(controller.answers).toEqual([]);
  expect((await lab.github.job(id))?.result).toBe("Succeeded");
  expect(agent.log()).not.toContain(token);
  expect(JSON.stringify(await readState())).not.toContain(token);
});

it("a grant that comes later is found; one that has expired or is nonsense is not used", async () => {
  const agent = await boot("aws");
  await controller.reports("ready");
  aws.setTag("github-registration_token", grantOf(await lab.token(), -5));
  await waitFor("the expired one to be seen", () => agent.log().includes("was good until"));
  aws.setTag("github-registration_token", '{"registration_token":"spaces are in it"}');
  const complaint = await controller.eventOf("error");
  expect(complaint.data).toMatchObject({ code: "runner_configure_failed", fatal: false });
  expect(controller.types()).not.toContain("runner_registered");
  aws.setTag("github-registration_token", await lab.token());
  const registered = await controller.eventOf("runner_registered");
  expect(registered.data).not.toHaveProperty("command_id");
  await controller.reports("idle");
  expect(controller.types().filter((type) => type === "error")).toHaveLength(1);
  expect(controller.answers).toEqual([]);
});

it("what made a registration fail is not tried again; the next grant is", async () => {
  gcp.setAttribute("github-registration_token", grantOf("REVOKEDREVOKEDREVOKEDREVOKED1", 60));
  await boot("gcp");
  const failed = await controller.eventOf("error");
  expect(failed.data).toMatchObject({ code: "runner_configure_failed", fatal: false });
  const used = (await readState()).usedGrant;
  gcp.setAttribute("github-registration_token", grantOf(await lab.token(), 60));
  await controller.eventOf("runner_registered");
  expect((await readState()).usedGrant).not.toBe(used);
  expect(controller.types().filter((type) => type === "error")).toHaveLength(1);
});
