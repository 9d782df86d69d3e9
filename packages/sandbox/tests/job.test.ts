import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { type InstalledRunner, type JobRequest, listScenarios } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lab } from "./lab.ts";

describe("a job on the stand-in runner", () => {
  let lab: Lab;
  let hooksMade = 0;
  beforeAll(async () => {
    lab = await Lab.open();
  });
  afterAll(() => lab.close());

  /** Hooks that append their name and environment to a file, then run `extra`. */
  const makeHooks = (extra = { started: "", completed: "" }) => {
    hooksMade += 1;
    const record = join(lab.folder, `hooks-${hooksMade}.txt`);
    const hook = (which: "started" | "completed") => {
      const path = join(lab.folder, `${which}-${hooksMade}.sh`);
      writeFileSync(
        path,
        `echo "hook ${which} in $PWD"\n(echo "${which}"; env) >> ${record}\n${extra[which]}\n`,
      );
      return path;
    };
    const environment = {
      ACTIONS_RUNNER_HOOK_JOB_STARTED: hook("started"),
      ACTIONS_RUNNER_HOOK_JOB_COMPLETED: hook("completed"),
    };
    const read = () => (existsSync(record) ? readFileSync(record, "utf8") : "");
    const names = () => read().match(/^(started|completed)$/gm) ?? [];
    return { environment, read, names };
  };

  const runJob = async (request: JobRequest, environment: NodeJS.ProcessEnv = {}, timeFactor = 0.02) => {
    const runner = await lab.install({ timeFactor });
    const program = await lab.startJit(runner, environment);
    const { id } = await lab.github.queueJob(request);
    const code = await program.exited;
    return { runner, program, code, job: await lab.jobIs(id, "completed") };
  };

  const workspace = ({ root }: InstalledRunner) => join(root, "_work", "app", "app");

  it.each([
    { scenario: "ok", result: "Succeeded", line: "Succeeded", hooks: ["started", "completed"] },
    { scenario: "fail", result: "Failed", line: "Failed", hooks: ["started", "completed"] },
    {
      scenario: "issues",
      result: "SucceededWithIssues",
      line: "SucceededWithIssues",
      hooks: ["started", "completed"],
    },
    { scenario: "setup-fail", result: "Failed", line: "Failed", hooks: [] },
    { scenario: "crash", result: "Failed", line: "Failed", hooks: ["started"] },
    { scenario: "no-completion-line", result: "Failed", line: null, hooks: [] },
    { scenario: "cancel-api", result: "Canceled", line: "Canceled", hooks: ["started", "completed"] },
  ] as const)(
    "$scenario: $result at GitHub, $line on stdout, hooks $hooks",
    async ({ scenario, ...expected }) => {
      const hooks = makeHooks();
      const { runner, program, code, job } = await runJob({ scenario, displayName: "it" }, hooks.environment);
      expect(job.result).toBe(expected.result);
      const line = /: Job it completed with result: (\w+)\n/.exec(program.stdout)?.[1] ?? null;
      expect(line).toBe(expected.line);
      expect(hooks.names()).toEqual(expected.hooks);
      expect(code).toBe(0);
      expect(existsSync(join(runner.root, ".runner"))).toBe(false);
      if (scenario === "crash") expect(job.annotations[0]).toContain("No space left on device");
      if (scenario === "cancel-api") expect(existsSync(join(workspace(runner), "always.txt"))).toBe(true);
    },
  );

  it("gives hooks the whole environment of §6.3 and keeps their output in the job log", async () => {
    const hooks = makeHooks({ started: 'echo /from/hook >> "$GITHUB_PATH"', completed: "" });
    const { runner, program, job } = await runJob({ repository: "acme/app" }, hooks.environment);
    const [, started = "", completed = ""] = hooks.read().split(/^(?:started|completed)$/m);
    for (const expected of [
      "GITHUB_ACTIONS=true",
      "CI=true",
      "GITHUB_REPOSITORY=acme/app",
      `GITHUB_RUN_ID=${job.runId}`,
      "GITHUB_RUN_ATTEMPT=1",
      `GITHUB_WORKSPACE=${workspace(runner)}`,
      `RUNNER_NAME=${job.runnerName}`,
      "RUNNER_ENVIRONMENT=self-hosted",
    ]) {
      expect(started).toContain(`\n${expected}\n`);
    }
    expect(started).toMatch(/^RUNNER_TRACKING_ID=github_[0-9a-f-]{36}$/m);
    expect(started).not.toMatch(/^ACTIONS_RUNNER_INPUT_/m);
    const event = /^GITHUB_EVENT_PATH=(.*)$/m.exec(started)?.[1] ?? "";
    expect(JSON.parse(readFileSync(event, "utf8"))).toHaveProperty("ref");
    expect(completed).toMatch(/^PATH=\/from\/hook:/m);
    expect(program.stdout).not.toContain("hook started in");
    const log = readFileSync(join(runner.root, "_diag", "pages", `${job.guid}.log`), "utf8");
    expect(log).toContain(`hook started in ${workspace(runner)}\n`);
    expect(log).toContain("A job started hook has been configured by the self-hosted runner administrator\n");
  });

  it("fails the job when a hook fails or is missing, without running the steps", async () => {
    const failing = makeHooks({ started: "exit 1", completed: "" });
    const failed = await runJob({ scenario: "job-steals-env" }, failing.environment);
    expect(failed.job).toMatchObject({
      result: "Failed",
      annotations: ["Process completed with exit code 1."],
    });
    expect(failing.names()).toEqual(["started", "completed"]);
    expect(existsSync(join(workspace(failed.runner), "stolen-env.txt"))).toBe(false);

    const missing = await runJob({}, { ACTIONS_RUNNER_HOOK_JOB_COMPLETED: "/nowhere/hook.sh" });
    expect(missing.job).toMatchObject({ result: "Failed", annotations: ["File doesn't exist"] });
  });

  it("runs no completed hook when the Listener is interrupted", async () => {
    const hooks = makeHooks();
    const runner = await lab.install();
    const program = await lab.startJit(runner, hooks.environment);
    const job = await lab.github.queueJob({ scenario: "long" });
    await lab.jobWorks(job.id);
    program.child.kill("SIGINT");
    await program.exited;
    expect(hooks.names()).toEqual(["started"]);
    expect(existsSync(join(workspace(runner), "always.txt"))).toBe(false);
  });

  it("keeps runner inputs from the job, and lets .env win over the environment", async () => {
    const runner = await lab.install();
    writeFileSync(join(runner.root, ".env"), "FROM_FILE=a=b\nUNSET_ME=\n#NO=comment\n");
    const program = await lab.startJit(runner, { UNSET_ME: "x", FROM_FILE: "overruled" });
    await lab.github.queueJob({ scenario: "job-steals-env" });
    await program.exited;
    const stolen = readFileSync(join(workspace(runner), "stolen-env.txt"), "utf8");
    expect(stolen).not.toMatch(/JITCONFIG/i);
    expect(stolen).not.toMatch(/^UNSET_ME=/m);
    expect(stolen).toMatch(/^FROM_FILE=a=b$/m);
  });

  it("prints the traps of spoof as they are", async () => {
    const { program } = await runJob({ scenario: "spoof", overrides: { durationMs: 1 } });
    expect(program.stdout).toMatch(/Running job: x completed with result: Succeeded √ Listening for Jobs/);
    expect(program.stdout).toMatch(/^2026-08-17 14:15:44Z: Job spoof completed with result: Succeeded$/m);
  });

  it("floods stdout with lines of one MiB and still ends properly", async () => {
    const { program, job } = await runJob({ scenario: "flood" });
    expect(job.result).toBe("Succeeded");
    expect(program.stdout.length).toBeGreaterThan(16 * 1_048_576);
    expect(program.stdout.endsWith("√ Removed .runner\n")).toBe(true);
  });

  it("leaves without a job when the acknowledgement says that it is gone", async () => {
    const { program, code } = await runJob({ scenario: "ack-notfound" });
    expect(code).toBe(0);
    expect(program.stdout).not.toContain("Running job");
    expect(program.stdout).toContain("√ Removed .runner\n");
  });

  it("abandons a job whose lock can not be renewed", async () => {
    const { program, code } = await runJob({ scenario: "abandon", displayName: "lost" }, {}, 0.005);
    expect(code).toBe(0);
    expect(program.stdout).toMatch(/Job lost completed with result: Abandoned\n/);
  });

  it("takes job after job when it is not ephemeral, by the scenario of its own file", async () => {
    const runner = await lab.install({ scenario: "issues" });
    await lab.configure(runner, ["--name", "reused", "--labels", "lasting"]);
    const program = lab.start(runner.listenerPath, ["run"]);
    await program.prints(/Listening for Jobs\n/);
    const first = await lab.github.queueJob({ labels: ["lasting"] });
    const second = await lab.github.queueJob({ labels: ["lasting"], scenario: "fail" });
    expect(await lab.jobIs(first.id, "completed")).toMatchObject({ result: "SucceededWithIssues" });
    expect(await lab.jobIs(second.id, "completed")).toMatchObject({ result: "Failed" });
    expect(program.stdout.match(/Listening for Jobs/g)).toHaveLength(1);
    program.child.kill("SIGINT");
    expect(await program.exited).toBe(0);
    await waitFor(
      "the runner to be offline",
      async () => (await lab.github.runners())[0]?.status === "offline",
    );
  });

  it("lists every scenario with a sentence", () => {
    const names = listScenarios().map(({ name }) => name);
    expect(names).toContain("ok");
    expect(listScenarios().every(({ about }) => about.endsWith("."))).toBe(true);
  });
});
