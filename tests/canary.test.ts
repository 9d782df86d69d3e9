import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { freePort } from "@mig/sandbox";
import { afterEach, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/**
 * Secrets that can be recognized, put wherever an agent takes one, and then looked for wherever something can be read:
 * its log, what it tells the controller, its status page, the arguments of every process, the environment of the job,
 * the files that it keeps.
 */
let house: House;
afterEach(() => house[Symbol.asyncDispose]());

const token = "canary-Token-0123456789abcdefghij";

it("no secret of the agent is anywhere but where it is used", async () => {
  house = await openHouse({
    agent: { env: { MIGLET_CONTROLLER_AUTH_TOKEN: token, MIGLET_CONTROLLER_AUTH_TYPE: "bearer" } },
  });
  const page = await freePort();
  const vm = await house.startVm("vm-canary", {
    settings: [`metrics: { listen: "127.0.0.1:${page}" }`, "logging: { level: debug }"],
  });
  await house.until("vm-canary", "state", "idle");
  const jit = await jitOfListener(vm.home);
  expect(jit.length).toBeGreaterThan(100);
  // Long enough to be looked at from all sides while it runs.
  const steal = 'env > "$GITHUB_WORKSPACE/stolen-env.txt"\nsleep 4\n';
  const job = await house.github.queueJob({ overrides: { steps: [{ name: "Steal", run: steal }] } });
  await house.until("vm-canary", "state", "running");
  const seen: Record<string, string> = {
    arguments: await argumentsOfAll(),
    status: await (await fetch(`http://127.0.0.1:${page}/status`)).text(),
    metrics: await (await fetch(`http://127.0.0.1:${page}/metrics`)).text(),
    state: await contentOf(join(vm.home, "state")),
  };
  await waitFor("the job to end", async () => (await house.github.job(job.id))?.status === "completed");
  await vm.agent.ended();
  seen["log"] = JSON.stringify(vm.agent.lines);
  seen["controller"] = JSON.stringify(house.controller.lines);
  seen["vm"] = JSON.stringify(await house.vm("vm-canary"));
  seen["job"] = await contentOf(join(vm.home, "actions-runner", "_work"));
  expect(seen["job"]).toContain("GITHUB_RUN_ID=");
  expect(seen["metrics"]).toContain("miglet_job_running 1");
  expect(JSON.parse(seen["status"] ?? "")).toMatchObject({ state: "job_running", vm_id: "vm-canary" });
  for (const [where, text] of Object.entries(seen)) {
    expect(text, where).not.toContain(token);
    expect(text, where).not.toContain(jit);
    // Its beginning is the same for each, so the part that is a key.
    expect(text, where).not.toContain(jit.slice(-60));
  }
});

/** What the agent gave to the Listener, from where only its own user can read it. */
async function jitOfListener(home: string): Promise<string> {
  const pid = JSON.parse(await readFile(join(home, "state", "state.json"), "utf8")).runner.pid as number;
  const environ = await readFile(`/proc/${pid}/environ`, "utf8");
  return /ACTIONS_RUNNER_INPUT_JITCONFIG=([^\0]+)/.exec(environ)?.[1] ?? "";
}

async function argumentsOfAll(): Promise<string> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return lines.join("\n");
}

async function contentOf(dir: string): Promise<string> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  // One that is just being written is renamed before it is read.
  const contents = files.map((file) => readFile(join(file.parentPath, file.name), "latin1").catch(() => ""));
  return (await Promise.all(contents)).join("\n");
}
