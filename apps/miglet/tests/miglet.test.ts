import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Lab } from "../../../packages/sandbox/tests/lab.ts";
import { isRunning } from "../src/runner/proc.ts";
import { TinyController } from "./tiny-controller.ts";

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));

/** The real agent as a process, the real programs of the stand-in runner, a GitHub and a controller on real sockets. */
describe("a MIGlet", () => {
  let lab: Lab;
  let controller: TinyController;
  let configPath: string;
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    lab = await Lab.open({ pollMs: 300 });
    controller = await TinyController.open();
    const runner = await lab.install();
    configPath = join(lab.folder, "miglet.yaml");
    await mkdir(join(lab.folder, "state"));
    await writeFile(
      configPath,
      `pool_id: pool-1
vm_id: vm-1
org_id: acme
state_dir: ${join(lab.folder, "state")}
controller:
  endpoint: ${controller.url}
  channel: poll
  retry: { initial_backoff: 50ms, max_backoff: 200ms }
runner: { dir: "${runner.root}", allow_root: true }
heartbeat: { interval: 1s }
shutdown: { grace_period: 2s, command: ["touch", "${join(lab.folder, "powered-off")}"] }
logging: { level: debug }
prerequisites: { disk_free_mib: 1 }
`,
    );
  });
  afterEach(async () => {
    for (const child of children.splice(0)) if (child.exitCode === null) child.kill("SIGKILL");
    await killRunner();
    await controller.close();
    await lab.close();
  });

  const killRunner = async (): Promise<void> => {
    const path = join(lab.folder, "state", "state.json");
    const pid = existsSync(path) ? JSON.parse(await readFile(path, "utf8")).runner?.pid : undefined;
    try {
      if (typeof pid === "number") process.kill(-pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  };

  const start = (...args: string[]) => {
    const child = spawn(process.execPath, [program, "--config", configPath, ...args], {
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
    return { child, exited, log: () => log };
  };

  /** The controller's part: register_runner with a real token, once. */
  const registersWhenReady = async (): Promise<string> => {
    const token = await lab.token();
    let asked = false;
    controller.onReady = () => {
      if (!asked)
        controller.command("register-1", "register_runner", {
          registration_token: token,
          runner_url: `${lab.github.webUrl}/acme`,
          runner_name: "vm-1-runner",
          labels: ["self-hosted", "linux"],
        });
      asked = true;
    };
    return token;
  };

  const startsAJob = async (durationMs: number) => {
    const { id } = await lab.github.queueJob({ scenario: "ok", overrides: { durationMs } });
    await controller.reports("job_running");
    await controller.eventOf("job_started");
    return id;
  };

  it("boots, registers, runs one job, shuts down and ends with 0", async () => {
    const token = await registersWhenReady();
    const agent = start();
    expect(await controller.resultOf("register-1")).toMatchObject({
      success: true,
      result: { runner_name: "vm-1-runner" },
    });
    await controller.reports("idle");
    await startsAJob(300);
    expect(await agent.exited).toBe(0);
    expect(controller.types()).toEqual([
      "vm_started",
      "runner_registered",
      "job_started",
      "job_completed",
      "vm_shutting_down",
      "vm_terminated",
    ]);
    const completed = await controller.eventOf("job_completed");
    expect(completed.data).toMatchObject({ result: "succeeded", success: true });
    expect(completed.data["run_id"]).not.toBe("");
    expect(controller.answers.map(({ commandId, stage }) => `${commandId} ${stage}`)).toEqual([
      "register-1 received",
      "register-1 result",
    ]);
    expect(existsSync(join(lab.folder, "powered-off"))).toBe(true);
    expect(agent.log()).not.toContain(token);
    for (const line of agent.log().trim().split("\n"))
      expect(JSON.parse(line)).toMatchObject({ vm_id: "vm-1", pool_id: "pool-1", org_id: "acme" });
  });

  it("lets its job end after SIGTERM, then says its last words", async () => {
    await registersWhenReady();
    const agent = start();
    await controller.resultOf("register-1");
    const id = await startsAJob(1_500);
    agent.child.kill("SIGTERM");
    await controller.reports("draining");
    expect(await agent.exited).toBe(0);
    expect((await lab.github.job(id))?.result).toBe("Succeeded");
    expect((await controller.eventOf("job_completed")).data).toMatchObject({ result: "succeeded" });
    expect(controller.types().at(-1)).toBe("vm_terminated");
  });

  it("stops its job after a second SIGTERM and says so by 143", async () => {
    await registersWhenReady();
    const agent = start();
    await controller.resultOf("register-1");
    const id = await startsAJob(60_000);
    agent.child.kill("SIGTERM");
    await controller.reports("draining");
    agent.child.kill("SIGTERM");
    expect(await agent.exited).toBe(143);
    expect((await lab.jobIs(id, "completed")).result).not.toBe("Succeeded");
    expect(controller.types().filter((type) => type === "job_completed")).toHaveLength(1);
    expect(controller.types().at(-1)).toBe("vm_terminated");
  });

  it("finds its runner again after kill -9, kills no job and completes it once", async () => {
    await registersWhenReady();
    const first = start();
    await controller.resultOf("register-1");
    const id = await startsAJob(2_500);
    first.child.kill("SIGKILL");
    await first.exited;
    const second = start();
    await waitFor("the second process finds it", () => second.log().includes("A runner was found again."));
    expect(await second.exited).toBe(0);
    expect((await lab.github.job(id))?.result).toBe("Succeeded");
    const types = controller.types();
    expect(types.filter((type) => type === "vm_started")).toHaveLength(1);
    expect(types.filter((type) => type === "job_completed")).toHaveLength(1);
    expect(types.filter((type) => type === "runner_registered")).toHaveLength(1);
    expect(new Set(controller.events.map(({ incarnation }) => incarnation)).size).toBe(1);
    expect(types.at(-1)).toBe("vm_terminated");
  });

  it("reports a job that ended while no agent was there", async () => {
    await registersWhenReady();
    const first = start();
    await controller.resultOf("register-1");
    const id = await startsAJob(500);
    first.child.kill("SIGKILL");
    await lab.jobIs(id, "completed");
    await waitFor("no runner", async () => (await lab.github.runners()).length === 0);
    expect(await start().exited).toBe(0);
    expect(controller.types().filter((type) => type === "job_completed")).toHaveLength(1);
    expect(controller.types().at(-1)).toBe("vm_terminated");
  });

  it("drains an idle runner and gives the receipt", async () => {
    await registersWhenReady();
    const agent = start();
    await controller.resultOf("register-1");
    await controller.reports("idle");
    controller.command("drain-1", "drain", { registration: "unknown" });
    expect(await controller.resultOf("drain-1")).toMatchObject({
      success: true,
      result: { drained: true, was: "idle", proof: { worker_seen: false } },
    });
    expect(await agent.exited).toBe(0);
  });

  it("obeys the small commands in any state and refuses what it does not know", async () => {
    const agent = start();
    await controller.reports("ready");
    controller.command("c-1", "set_log_level", { level: "error" });
    controller.command("c-2", "update_config", { heartbeat_interval: "2s", shutdown_grace_period: "1s" });
    controller.command("c-3", "update_config", { "controller.endpoint": "http://evil" });
    controller.command("c-4", "format_disk");
    controller.command("c-5", "shutdown");
    expect(await controller.resultOf("c-1")).toMatchObject({ success: true });
    expect(await controller.resultOf("c-2")).toMatchObject({ success: true });
    const refused = await controller.resultOf("c-3");
    expect(refused).toMatchObject({ success: false, result: { refused: true } });
    expect(refused.message).toContain("controller.endpoint");
    expect(await controller.resultOf("c-4")).toMatchObject({ success: false, result: { refused: true } });
    expect(await controller.resultOf("c-5")).toMatchObject({ success: true, result: { shutdown: true } });
    expect(await agent.exited).toBe(0);
  });

  it("waits for a controller that is away and loses nothing", async () => {
    controller.isUp = false;
    const agent = start();
    await waitFor("the agent waits", () => agent.log().includes('"waiting_for_controller"'));
    controller.isUp = true;
    await controller.reports("ready");
    expect(controller.types()).toEqual(["vm_started"]);
    agent.child.kill("SIGTERM");
    expect(await agent.exited).toBe(0);
  });

  it("ends with 3, and says why, when the machine lacks a runner", async () => {
    const agent = start("--runner.dir", join(lab.folder, "nowhere"));
    expect(await agent.exited).toBe(3);
    expect((await controller.eventOf("error")).data).toMatchObject({
      code: "runner_not_installed",
      fatal: true,
    });
    expect(controller.types().at(-1)).toBe("vm_terminated");
  });

  it("is the only agent of its state directory: a second one ends with 3 and touches nothing", async () => {
    await registersWhenReady();
    const agent = start();
    await controller.resultOf("register-1");
    const id = await startsAJob(1_500);
    const second = start();
    expect(await second.exited).toBe(3);
    expect(second.log()).toContain("Another agent works in the state directory");
    expect(existsSync(join(lab.folder, "powered-off"))).toBe(false);
    expect(await agent.exited).toBe(0);
    expect((await lab.github.job(id))?.result).toBe("Succeeded");
  });

  it("started again after its end it says nothing a second time", async () => {
    const first = start();
    await controller.reports("ready");
    first.child.kill("SIGTERM");
    expect(await first.exited).toBe(0);
    const types = controller.types();
    expect(types.slice(-2)).toEqual(["vm_shutting_down", "vm_terminated"]);
    expect(await start().exited).toBe(0);
    expect(controller.types()).toEqual(types);
  });

  it("lives on when nobody reads its log any more", async () => {
    const agent = start();
    await controller.reports("ready");
    agent.child.stdout.destroy();
    agent.child.stderr.destroy();
    controller.command("c-1", "set_log_level", { level: "debug" });
    await controller.resultOf("c-1");
    controller.command("c-2", "shutdown");
    await controller.resultOf("c-2");
    expect(await agent.exited).toBe(0);
  });

  it("ends in order when SIGTERM comes before it has opened its memory", async () => {
    const agent = start();
    await waitFor("the first word", () => agent.log().includes("The agent starts."), { everyMs: 1 });
    agent.child.kill("SIGTERM");
    expect(await agent.exited).toBe(0);
    expect(controller.types().at(-1)).toBe("vm_terminated");
  });

  it("finds the runner that it had started when kill -9 came before it was noted, and starts no second", async () => {
    await registersWhenReady();
    const first = start();
    await controller.resultOf("register-1");
    await controller.reports("idle");
    first.child.kill("SIGKILL");
    await first.exited;
    const statePath = join(lab.folder, "state", "state.json");
    const { runner, said, ...rest } = JSON.parse(await readFile(statePath, "utf8"));
    await writeFile(statePath, JSON.stringify({ ...rest, state: "registering_runner" }));
    const second = start();
    await waitFor("it is found", () => second.log().includes("A runner was found again."));
    controller.command("drain-1", "drain", { registration: "unknown" });
    expect(await controller.resultOf("drain-1")).toMatchObject({ success: true, result: { was: "idle" } });
    expect(await second.exited).toBe(0);
    expect(await isRunning(runner.pid, runner.startTicks)).toBe(false);
    expect(said).toMatchObject({ runner_registered: 2 });
  });

  it("ends with 2 and lists every problem at once", async () => {
    const agent = start("--heartbeat.interval", "0", "--hartbeat.timeout", "1s", "--vm_id", "..");
    expect(await agent.exited).toBe(2);
    expect(agent.log()).toMatch(/heartbeat\.interval: "0" is not a duration/);
    expect(agent.log()).toMatch(/hartbeat\.timeout: is no setting\. Did you mean --heartbeat\.timeout/);
    expect(agent.log()).toMatch(/vm_id: "\.\." is not an id/);
  });
});
