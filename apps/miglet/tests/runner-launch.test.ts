import { spawnSync } from "node:child_process";
import { chmod, mkdir, readFile, rmdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { buildEnvironment, type RunnerEnvironment } from "../src/runner/environment.ts";
import { argumentsOf } from "../src/runner/proc.ts";
import { findScope, killScope } from "../src/runner/scope.ts";
import { environment, isGone, kinds, RunnerLab, statusOf } from "./runner-lab.ts";

const isRoot = process.getuid?.() === 0;
const nobody = { uid: 65534, gid: 65534, name: "nobody", home: "/nonexistent" };
/** The stand-in's programs are in this checkout, which may lie in somebody's home. */
const comesHere =
  isRoot &&
  [import.meta.filename, process.execPath].every(
    (path) => spawnSync("/usr/bin/test", ["-r", path], { uid: nobody.uid, gid: nobody.gid }).status === 0,
  );

let lab: RunnerLab;
let tools: string;
let withTools: RunnerEnvironment;
beforeEach(async () => {
  lab = await RunnerLab.open();
  tools = join(lab.folder, "tools");
  await mkdir(tools);
  withTools = { ...environment, host: { ...environment.host, PATH: `${tools}:${environment.host["PATH"]}` } };
});
afterEach(() => lab.close());

async function tool(name: string, script: string): Promise<void> {
  await writeFile(join(tools, name), `#!/bin/bash\n${script}\n`);
  await chmod(join(tools, name), 0o755);
}

describe.runIf(comesHere)("as another user", () => {
  test("the runner has its user's groups, its own number from the start, and its job is seen", async () => {
    const watched = await lab.listen({}, { environment: { ...environment, user: nobody } });
    const { pid } = watched.runner.record;
    expect(await statusOf(pid, "Uid")).toBe("65534\t65534\t65534\t65534");
    // Without initgroups there is nothing here; with it, at least the user's own group.
    expect((await statusOf(pid, "Groups")).split(" ")).toContain("65534");
    expect((await argumentsOf(pid)).join(" ")).not.toContain("setpriv");
    await lab.run({ overrides: { durationMs: 100 } }, watched);
    const completed = watched.seen.at(-1);
    expect(completed).toMatchObject({ kind: "job_completed", result: "succeeded" });
    // Written by the runner's user, read by the agent's.
    const trail = completed?.kind === "job_completed" ? completed.trail : [];
    expect(trail?.map(({ what }) => what)).toContain("job_message");
    expect(completed).toHaveProperty("usage.cpuSeconds");
  });

  test("the runner may append to its counters and neither read nor replace them", async () => {
    const watched = await lab.listen({}, { environment: { ...environment, user: nobody } });
    const dir = join(watched.settings.stateDir, "runner", "perf");
    expect((await stat(dir)).mode & 0o777).toBe(0o755);
    const file = await stat(join(dir, "Runner.perf"));
    expect([file.uid, file.mode & 0o777]).toEqual([0, 0o622]);
    expect(await readFile(join(dir, "Runner.perf"), "utf8")).toContain("SessionCreated:");
  });

  test("a setpriv that refuses is said once, and spawn gives the user without its groups", async () => {
    await tool("setpriv", "echo refused >&2; exit 1");
    const watched = await lab.listen({}, { environment: { ...withTools, user: nobody } });
    const { pid } = watched.runner.record;
    expect(await statusOf(pid, "Uid")).toBe("65534\t65534\t65534\t65534");
    expect(await statusOf(pid, "Groups")).toBe("");
    expect(lab.logged.filter(({ text }) => /none of its groups/.test(String(text)))).toHaveLength(1);
  });
});

describe("the environment", () => {
  test("RUNNER_TRACKING_ID is never passed on, whoever sets it (trap 44)", () => {
    const marked = { RUNNER_TRACKING_ID: "github_1" };
    expect(buildEnvironment({ host: marked, extra: marked }, marked)).not.toHaveProperty(
      "RUNNER_TRACKING_ID",
    );
  });

  test("neither token nor JIT config stands in any argument list", async () => {
    const installed = await lab.install();
    const token = await lab.registrationToken();
    const seen = new Set<string>();
    const configuring = lab.configure(installed, {
      registration: {
        name: "vm-1",
        runnerUrl: `${lab.github.webUrl}/acme`,
        labels: ["linux"],
        material: { kind: "token", token },
      },
    });
    const end = configuring.then(() => true);
    const isOver = async (): Promise<boolean> => Promise.race([end, Promise.resolve(false)]);
    while (!(await isOver()))
      for (const pid of await lab.processes(/./)) for (const word of await argumentsOf(pid)) seen.add(word);
    expect([...seen].some((word) => word.endsWith("config.sh"))).toBe(true);
    expect([...seen].filter((word) => word.includes(token))).toEqual([]);
  });
});

describe("out of memory (trap 47)", () => {
  test("the Listener goes after its job's steps and before the agent", async (context) => {
    // CAP_SYS_RESOURCE, which root may lack in a container.
    const may = Number.parseInt(await statusOf(process.pid, "CapEff"), 16) & (1 << 24);
    if (may === 0) return context.skip("this machine lets nobody lower an oom_score_adj");
    const watched = await lab.listen();
    const score = await readFile(`/proc/${watched.runner.record.pid}/oom_score_adj`, "utf8");
    expect(score.trim()).toBe("-500");
  });
});

/** As systemd-run: it makes the cgroup, moves itself into it, and becomes what stands behind "--". */
const standIn = (mount: string): string => `
echo "$@" >> "$(dirname "$0")/calls.txt"
for word in "$@"; do
  case "$word" in --unit=*) unit="\${word#--unit=}" ;; esac
  case "$word" in *OOMPolicy*) if [ -e "$(dirname "$0")/old" ]; then echo "Unknown assignment" >&2; exit 1; fi ;; esac
done
while [ "$1" != "--" ]; do shift; done
shift
mkdir -p "${mount}/$unit.scope" && echo $$ > "${mount}/$unit.scope/cgroup.procs"
exec "$@"`;

describe.runIf(isRoot)("in a scope of its own", () => {
  let mount: string;
  beforeEach(async () => {
    const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    mount = mounts.find((line) => line.includes(" - cgroup2 "))?.split(" ")[4] ?? "";
  });
  // Runs before the lab closes: what still lives is ended, and then systemd would remove the empty cgroup.
  afterEach(async () => {
    const units = (await calls().catch(() => [])).map((call) => /--unit=(\S+)/.exec(call)?.[1]);
    for (const scope of units.map((unit) => join(mount, `${unit}.scope`))) {
      await killScope(scope, 2_000);
      await rmdir(scope).catch(() => {});
    }
  });
  const calls = async () => (await readFile(join(tools, "calls.txt"), "utf8")).trim().split("\n");
  const inScope = { scope: "systemd" as const };

  test("the runner is in it, as its user, and all that its job leaves is ended with it", async (context) => {
    if (mount === "") return context.skip("no cgroup2 is mounted here");
    if (!comesHere) return context.skip("another user cannot read this checkout");
    await tool("systemd-run", standIn(mount));
    const watched = await lab.listen({}, { ...inScope, environment: { ...withTools, user: nobody } });
    const { pid } = watched.runner.record;
    const scope = await findScope(pid);
    expect(scope).toMatch(/miglet-runner-[0-9a-f]{12}\.scope$/);
    expect(watched.runner.record.notes?.["scope"]).toBe(scope);
    expect((await calls())[0]).toMatch(/^--scope --collect --quiet --unit=miglet-runner-/);
    expect(await statusOf(pid, "Uid")).toMatch(/^65534/);
    // It leaves group and session, and so everything but its cgroup.
    const run =
      'setsid sleep 300 > /dev/null 2>&1 &\nsleep 0.2\npgrep -n -f "^sleep 300" > "$GITHUB_WORKSPACE/pid"\n';
    const steps = [{ name: "Escape", run: `export -n RUNNER_TRACKING_ID; unset RUNNER_TRACKING_ID\n${run}` }];
    await lab.run({ overrides: { steps } }, watched);
    const escaped = Number(await readFile(join(lab.workspace, "pid"), "utf8"));
    expect(escaped).toBeGreaterThan(1);
    expect(watched.exits).toMatchObject([{ meaning: "done", leftBehind: 1 }]);
    await waitFor("its end", () => isGone(escaped));
    const completed = watched.seen.at(-1);
    expect(completed).toHaveProperty("usage.cpuSeconds");
    expect(completed).toHaveProperty("usage.peakMemoryBytes");
  });

  test("it is found again by an agent that restarts", async (context) => {
    if (mount === "") return context.skip("no cgroup2 is mounted here");
    await tool("systemd-run", standIn(mount));
    const watched = await lab.listen({}, { ...inScope, environment: withTools });
    await watched.runner.release();
    const { notes: _lost, ...record } = watched.runner.record;
    const again = await lab.adopt(watched, record);
    expect(again.runner.record.notes?.["scope"]).toBe(await findScope(record.pid));
  });

  test("a systemd that knows no OOMPolicy of scopes is asked again without it", async (context) => {
    if (mount === "") return context.skip("no cgroup2 is mounted here");
    await tool("systemd-run", standIn(mount));
    await writeFile(join(tools, "old"), "");
    const watched = await lab.listen({}, { ...inScope, environment: withTools });
    expect(await findScope(watched.runner.record.pid)).toBeDefined();
    const [first, second] = await calls();
    expect(first).toContain("OOMPolicy");
    expect(second).not.toContain("OOMPolicy");
  });

  test("a systemd-run that refuses leaves a runner without a scope, and one warning", async () => {
    await tool("systemd-run", 'echo "Failed to start transient scope unit: no bus" >&2; exit 1');
    const auto = { scope: "auto" as const, systemdPath: lab.folder, environment: withTools };
    const watched = await lab.listen({}, auto);
    expect(await findScope(watched.runner.record.pid)).toBeUndefined();
    expect(lab.logged.filter(({ text }) => /scope/.test(String(text)))).toHaveLength(1);
    await lab.run({ overrides: { durationMs: 50 } }, watched);
    expect(watched.exits).toMatchObject([{ meaning: "done", exitCode: 0 }]);
  });

  test("where a scope is demanded a runner without one is not started: it would be in the agent's own cgroup", async () => {
    await tool("systemd-run", "exit 1");
    await expect(lab.listen({}, { ...inScope, environment: withTools })).rejects.toMatchObject({
      code: "runner_start_failed",
    });
  });

  test("auto asks for one only where systemd runs the machine", async () => {
    await tool("systemd-run", standIn(mount === "" ? lab.folder : mount));
    const auto = { scope: "auto" as const, environment: withTools };
    await lab.listen({}, { ...auto, systemdPath: join(lab.folder, "none") });
    await expect(calls()).rejects.toThrow(/ENOENT/);
  });

  test("auto asks for one where systemd runs the machine", async (context) => {
    if (mount === "") return context.skip("no cgroup2 is mounted here");
    await tool("systemd-run", standIn(mount));
    const auto = { scope: "auto" as const, environment: withTools };
    const watched = await lab.listen({}, { ...auto, systemdPath: lab.folder });
    expect(await findScope(watched.runner.record.pid)).toBeDefined();
    expect(kinds(watched)).toEqual(["listening"]);
    await waitFor("the call", async () => (await calls()).length === 1);
  });
});
