import { existsSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Lab } from "./lab.ts";

describe("how run.sh and its helper end (runner-contract §3.2, §3.3)", () => {
  let lab: Lab;
  beforeEach(async () => {
    lab = await Lab.open();
  });
  afterEach(() => lab.close());

  const deprecated = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE";
  it.each([
    { scenario: "deprecated", environment: {}, direct: 1, wrapped: 0, line: "terminated error" },
    { scenario: "deprecated", environment: { [deprecated]: "true" }, direct: 7, wrapped: 0, line: "code: 7" },
    {
      scenario: "deprecated",
      environment: { [deprecated]: "1" },
      direct: 7,
      wrapped: 7,
      line: "exit code: 7.",
    },
    { scenario: "deleted-before-start", environment: {}, direct: 1, wrapped: 0, line: "terminated error" },
    { scenario: "unknown-exit", environment: {}, direct: 134, wrapped: 0, line: "unknown error code: 134" },
  ] as const)(
    "$scenario with $environment: $direct, $wrapped",
    async ({ scenario, environment, ...expected }) => {
      const runner = await lab.install({ scenario, timeFactor: 0.001 });
      await lab.configure(runner, ["--name", `${scenario}-${expected.wrapped}-${expected.direct}`]);
      const direct = lab.start(runner.listenerPath, ["run"], environment);
      const wrapped = lab.start(runner.runPath, [], environment);
      expect(await direct.exited).toBe(expected.direct);
      expect(await wrapped.exited).toBe(expected.wrapped);
      expect(wrapped.stdout).toContain(expected.line);
      expect(wrapped.stdout.endsWith("Exiting runner...\n")).toBe(true);
    },
  );

  it("restarts after code 2 without end", async () => {
    const runner = await lab.install({ scenario: "restart-loop", timeFactor: 0.001 });
    await lab.configure(runner, ["--name", "restless"]);
    const program = lab.start(runner.runPath);
    await program.prints(/(re-launch runner in 5 seconds\.\nRestarting runner\.\.\.\n[\s\S]*){3}/);
  });

  it("updates itself, restarts and listens with the new version", async () => {
    const runner = await lab.install({ scenario: "update" });
    await lab.configure(runner, ["--name", "updated", "--ephemeral"]);
    const program = lab.start(runner.runPath);
    await program.prints(
      /Update finished successfully\.\nRestarting runner\.\.\.\n[\s\S]*'2\.999\.0'\n.*Listening for Jobs/,
    );
    process.kill(lab.listenerOf(runner), "SIGINT");
    await program.exited;
    expect(program.stdout).toContain("Runner update in progress, do not shutdown runner.\n");
    expect(program.stdout).toContain("re-launch runner after successful update\n");
  });

  it.each([
    {
      scenario: "reconnect",
      says: /^\S+ \S+: Runner connect error: Name or service/m,
      ready: /Z: Runner reconnected\.$/m,
    },
    {
      scenario: "skew",
      says: /clock may be out of sync[\s\S]*clock may be/,
      ready: /Z: Listening for Jobs$/m,
    },
    {
      scenario: "poll-10-errors",
      says: /^An error occurred: The service is not available\.$/m,
      ready: /Jobs$/m,
    },
  ] as const)("$scenario: $says", async ({ scenario, says, ready }) => {
    const runner = await lab.install({ scenario, timeFactor: 0.001 });
    await lab.configure(runner, ["--name", scenario]);
    const program = lab.start(runner.listenerPath, ["run"]);
    await program.prints(ready);
    await program.prints(says);
    program.child.kill("SIGINT");
    expect(await program.exited).toBe(scenario === "poll-10-errors" ? 2 : 0);
  });

  it("asks for a restart after its job, then finds its registration deleted", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner, {}, runner.runPath);
    await lab.github.queueJob({ scenario: "exit2-after-job" });
    expect(await program.exited).toBe(0);
    expect(program.stdout).toMatch(/completed with result: Succeeded\n[^√]*Restarting runner/);
    expect(program.stderr).toContain("The runner registration has been deleted from the server");
  });

  it("updates itself when GitHub says so: code 3, or 4 when ephemeral", async () => {
    const lasting = await lab.install();
    await lab.configure(lasting, ["--name", "lasting"]);
    const programs = [lab.start(lasting.listenerPath, ["run"]), await lab.startJit(await lab.install())];
    await programs[0]?.prints(/Listening for Jobs\n/);
    for (const { id, status } of await lab.github.runners()) {
      if (status === "online") await lab.github.pushUpdate(id, "2.400.0");
    }
    expect(await Promise.all(programs.map(({ exited }) => exited))).toEqual([3, 4]);
    await waitFor("the update script", () => existsSync(join(lasting.root, "update.finished")));
    const updated = lab.start(lasting.listenerPath, ["--version"]);
    await updated.exited;
    expect(updated.stdout).toBe("2.400.0\n");
  });

  it("is not configured, or refuses a bad JIT config: code 1", async () => {
    const runner = await lab.install();
    const unconfigured = lab.start(runner.listenerPath, ["run"]);
    expect(await unconfigured.exited).toBe(1);
    expect(unconfigured.stderr).toContain("An error occurred: Not configured.");
    const bad = lab.start(runner.listenerPath, ["run"], { ACTIONS_RUNNER_INPUT_JITCONFIG: "no base64!" });
    expect(await bad.exited).toBe(1);
    const version = lab.start(runner.listenerPath, ["--version"]);
    expect(await version.exited).toBe(0);
    expect(version.stdout).toBe("2.336.0\n");
  });

  it("refuses root in the helper and still ends with 0", async () => {
    const runner = await lab.install();
    const program = lab.start(runner.runPath, [], { RUNNER_ALLOW_RUNASROOT: undefined });
    expect(await program.exited).toBe(0);
    const refused = program.stdout.startsWith("Must not run interactively with sudo\n");
    expect(refused).toBe(process.getuid?.() === 0);
  });

  it("gives the result of the job as exit code to hosted supervisors", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner, { ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED: "true" });
    await lab.github.queueJob({ scenario: "fail" });
    expect(await program.exited).toBe(102);
  });
});
