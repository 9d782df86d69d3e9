import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isAlive, Lab } from "./lab.ts";

describe("signals (runner-contract §3.4–§3.6)", () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await Lab.open();
  });
  afterAll(() => lab.close());

  it("SIGTERM to run.sh kills only the shell: the Listener goes on and takes jobs", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner, {}, runner.runPath);
    const listener = lab.listenerOf(runner);
    process.kill(program.pid, "SIGTERM");
    await waitFor("the shell to be gone", () => program.child.signalCode === "SIGTERM");
    expect(isAlive(listener)).toBe(true);
    const job = await lab.github.queueJob();
    expect(await lab.jobIs(job.id, "completed")).toMatchObject({ result: "Succeeded" });
    await waitFor("the Listener to end", () => !isAlive(listener));
  });

  it("SIGTERM to run.sh reaches the Listener as SIGINT when RUNNER_MANUALLY_TRAP_SIG is set", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner, { RUNNER_MANUALLY_TRAP_SIG: "1" }, runner.runPath);
    process.kill(program.pid, "SIGTERM");
    expect(await program.exited).toBe(143);
    expect(program.stdout).toContain("Exiting...\n");
  });

  it("SIGKILL to the Listener leaves a Worker that finishes and reports its job", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ overrides: { durationMs: 400 } });
    await lab.jobWorks(job.id);
    const worker = lab.workerOf(runner);
    program.child.kill("SIGKILL");
    await waitFor("the Listener to be gone", () => !isAlive(program.pid));
    expect(isAlive(worker)).toBe(true);
    expect(await lab.jobIs(job.id, "completed")).toMatchObject({ result: "Succeeded", reportedBy: "worker" });
    await waitFor("the Worker to end", () => !isAlive(worker));
  });

  it("the scenario listener-crash does the same by itself", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ scenario: "listener-crash" });
    expect(await program.exited).toBe("SIGKILL");
    expect(await lab.jobIs(job.id, "completed")).toMatchObject({ result: "Succeeded" });
  });

  it("finishes its job when nobody reads its output any more", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ overrides: { durationMs: 100 } });
    await lab.jobWorks(job.id);
    program.child.stdout?.destroy();
    program.child.stderr?.destroy();
    expect(await lab.jobIs(job.id, "completed")).toMatchObject({ result: "Succeeded" });
    await waitFor("the Listener to end", () => program.child.exitCode === 0);
    expect(existsSync(join(runner.root, ".runner"))).toBe(false);
  });

  it("SIGTERM while busy shuts the job down and ends with 143", async () => {
    const runner = await lab.install({ timeFactor: 0.05 });
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ scenario: "long" });
    await lab.jobWorks(job.id);
    program.child.kill("SIGTERM");
    expect(await program.exited).toBe(143);
    expect(program.stdout).not.toContain("Exiting...");
    expect(await lab.github.job(job.id)).toMatchObject({ result: "Failed" });
  });

  it("SIGTERM after SIGINT ends the Listener at once and leaves the Worker alone", async () => {
    const runner = await lab.install({ timeFactor: 0.2 });
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ scenario: "ignore-sigterm", overrides: { ignoreTerm: false } });
    await lab.jobWorks(job.id);
    const worker = lab.workerOf(runner);
    program.child.kill("SIGINT");
    await program.prints(/Exiting\.\.\./);
    program.child.kill("SIGTERM");
    await waitFor("the Listener to be gone", () => program.child.exitCode === 143);
    expect(isAlive(worker)).toBe(true);
    process.kill(worker, "SIGKILL");
  });

  it("ignore-sigterm: the step outlives INT and TERM, not KILL", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ scenario: "ignore-sigterm" });
    await lab.jobWorks(job.id);
    program.child.kill("SIGTERM");
    program.child.kill("SIGINT");
    expect(await program.exited).toBe(0);
    expect(await lab.github.job(job.id)).toMatchObject({
      annotations: ["Process completed with exit code 137.", expect.stringContaining("shutdown signal")],
    });
  });

  it("ignore-int: SIGINT does nothing", async () => {
    const runner = await lab.install({ scenario: "ignore-int" });
    const program = await lab.startJit(runner);
    program.child.kill("SIGINT");
    const job = await lab.github.queueJob({ overrides: { durationMs: 1 } });
    expect(await lab.jobIs(job.id, "completed")).toMatchObject({ result: "Succeeded" });
    await program.exited;
    expect(program.stdout).not.toContain("Exiting...");
  });

  it("SIGINT to the Worker is ignored, SIGTERM makes it a crash", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner);
    const job = await lab.github.queueJob({ scenario: "long", displayName: "hit" });
    await lab.jobWorks(job.id);
    const worker = lab.workerOf(runner);
    process.kill(worker, "SIGINT");
    await waitFor("the Worker's note", () => lab.diag(runner, "Worker").includes("Ignoring SIGINT."));
    process.kill(worker, "SIGTERM");
    expect(await program.exited).toBe(0);
    expect(program.stdout).toMatch(/Job hit completed with result: Failed\n/);
  });

  it("daemon-left: an orphan dies with its job unless it has hidden its tracking id", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner);
    await lab.github.queueJob({ scenario: "daemon-left" });
    await program.exited;
    const text = readFileSync(join(runner.root, "_work", "app", "app", "daemons.txt"), "utf8");
    const [tracked = Number.NaN, hidden = Number.NaN] = text.trim().split("\n").map(Number);
    await waitFor("the tracked daemon to die", () => !isAlive(tracked));
    expect(isAlive(hidden)).toBe(true);
    process.kill(hidden, "SIGKILL");
  });
});
