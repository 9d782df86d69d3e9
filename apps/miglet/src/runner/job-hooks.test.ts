import { spawn } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseHookLine, writeHooks } from "./job-hooks.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-hooks-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** As the runner calls it: bash -e, or sh -e where there is no bash. */
function runHook(shell: string, path: string, env: Record<string, string>, uid?: number) {
  return new Promise<{ code: number | null; output: string }>((resolve) => {
    const user = uid === undefined ? {} : { uid, gid: uid };
    const child = spawn(shell, ["-e", path], { env, stdio: ["ignore", "pipe", "pipe"], ...user });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    child.on("close", (code) => resolve({ code, output }));
  });
}

const nasty = `quote " back \\ tab\t newline\n dollar $(touch pwned) ' percent %s ü`;

test.each(["/bin/sh", "/bin/bash"])(
  "a hook under %s writes one line about the job, whatever its names contain",
  async (shell) => {
    const files = await writeHooks({ dir: join(root, "hooks"), isOtherUser: false });
    const env = {
      PATH: "/nowhere",
      GITHUB_RUN_ID: "42",
      GITHUB_JOB: "build",
      GITHUB_REPOSITORY: "acme/app",
      GITHUB_WORKFLOW: nasty,
      GITHUB_RUN_ATTEMPT: "2",
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: "bearer-secret",
    };
    for (const path of [files.started, files.completed])
      expect(await runHook(shell, path, env)).toEqual({ code: 0, output: "" });
    const text = await readFile(files.spool, "utf8");
    expect(text).not.toContain("bearer-secret");
    const [first = "", second = ""] = text.trimEnd().split("\n");
    expect(parseHookLine(first)).toMatchObject({
      hook: "started",
      job: {
        jobId: "build",
        runId: "42",
        repository: "acme/app",
        runAttempt: 2,
        workflow: nasty.replace(/[\t\n]/g, " "),
      },
    });
    expect(parseHookLine(second)?.hook).toBe("completed");
  },
);

test("a hook fails no job when it cannot write, and passes on what the operator's own hook says", async () => {
  const own = join(root, "own.sh");
  await writeFile(own, "echo from the operator\nexit 7\n");
  const files = await writeHooks({ dir: join(root, "hooks"), isOtherUser: false, chain: { completed: own } });
  await rm(join(root, "hooks", "jobs.jsonl"));
  const script = await readFile(files.started, "utf8");
  await writeFile(files.started, script.replaceAll("jobs.jsonl", "none/jobs.jsonl"));
  expect(await runHook("/bin/sh", files.started, {})).toEqual({ code: 0, output: "" });
  expect(await runHook("/bin/bash", files.completed, { PATH: "/bin" })).toEqual({
    code: 7,
    output: "from the operator\n",
  });
});

test("lines that a job forged are skipped or stay harmless", () => {
  for (const line of ["", "null", "[]", '{"hook":"ended"}', "{", '{"hook":1}'])
    expect(parseHookLine(line)).toBeUndefined();
  expect(parseHookLine('{"hook":"started","GITHUB_JOB":{"a":1}}')).toEqual({
    hook: "started",
    job: { jobId: "", runId: "" },
  });
});

test.runIf(process.getuid?.() === 0)(
  "a runner of another user comes to its hooks through the agent's own directory, and reads nothing there",
  async () => {
    const nobody = 65534;
    const state = join(root, "state");
    await chmod(root, 0o755);
    await mkdir(join(state, "runner"), { recursive: true, mode: 0o700 });
    await writeFile(join(state, "state.json"), "secret", { mode: 0o600 });
    const files = await writeHooks({ dir: join(state, "runner", "hooks"), isOtherUser: true });
    expect(await runHook("/bin/sh", files.started, { GITHUB_RUN_ID: "7" }, nobody)).toEqual({
      code: 0,
      output: "",
    });
    expect(parseHookLine((await readFile(files.spool, "utf8")).trim())?.job.runId).toBe("7");
    await writeFile(join(root, "look.sh"), `ls ${state} || cat ${state}/state.json ${files.spool}`);
    expect(
      (await runHook("/bin/sh", join(root, "look.sh"), { PATH: "/bin:/usr/bin" }, nobody)).code,
    ).not.toBe(0);
  },
);
