import { chmod, mkdir, open, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { MigError } from "@mig/lifecycle";
import { asObject, type JobData, maybe, readText } from "@mig/protocol";

export interface HookFiles {
  started: string;
  completed: string;
  /** Both append to it: one JSON line each. */
  spool: string;
}

export interface HookSettings {
  /** Outside of the runner's directories; without blanks, because the runner does not quote it. */
  dir: string;
  /** The operator's own hooks, run after ours with the job's environment; their exit code counts. */
  chain?: { started?: string; completed?: string } | undefined;
  /** The runner runs as another user, which must be able to append. */
  isOtherUser: boolean;
}

/** Of a hook's some eighty variables, the ones that say who the job is. Tokens are among the rest. */
const variables = [
  "GITHUB_RUN_ID",
  "GITHUB_RUN_ATTEMPT",
  "GITHUB_JOB",
  "GITHUB_REPOSITORY",
  "GITHUB_REF",
  "GITHUB_REF_NAME",
  "GITHUB_SHA",
  "GITHUB_WORKFLOW",
  "GITHUB_EVENT_NAME",
  "GITHUB_ACTOR",
  "RUNNER_NAME",
];

/**
 * Writes the two hook scripts (runner-contract §6.5): silent, because what they print lands in the job's log and
 * may be read as workflow commands; two seconds at most, because the runner gives hooks no limit; exit 0 always,
 * because anything else fails the user's job; absolute paths, because a job may have changed PATH.
 */
export async function writeHooks(settings: HookSettings): Promise<HookFiles> {
  const { dir, chain, isOtherUser } = settings;
  const files: HookFiles = {
    started: join(dir, "job-started.sh"),
    completed: join(dir, "job-completed.sh"),
    spool: join(dir, "jobs.jsonl"),
  };
  if (/\s/.test(dir))
    throw new MigError(
      "settings_invalid",
      `The state directory "${dir}" has a blank in its path; hooks cannot run from it.`,
    );
  await mkdir(dir, { recursive: true, mode: 0o755 });
  await (await open(files.spool, "a", 0o600)).close();
  if (isOtherUser) {
    await chmod(dir, 0o755);
    // The runner must be able to come here through the agent's own directories, and see nothing on its way: whatever
    // else is in them is 0600 or 0700. Without this its hooks fail, and a hook that fails makes its job fail.
    for (const above of [dirname(dir), dirname(dirname(dir))]) await chmod(above, 0o711);
    await chmod(files.spool, 0o622);
  }
  await writeScript(files.started, hookScript("started", files.spool, chain?.started));
  await writeScript(files.completed, hookScript("completed", files.spool, chain?.completed));
  return files;
}

async function writeScript(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o755 });
  await chmod(path, 0o755);
}

export function hookScript(
  hook: "started" | "completed",
  spool: string,
  chained: string | undefined,
): string {
  const program = [
    'function e(s){s=substr(s,1,300);gsub(/\\\\/,"\\\\\\\\&",s);gsub(/"/,"\\\\\\\\&",s);gsub(/[\\001-\\037\\177]/," ",s);return s}',
    `BEGIN{printf "{\\"hook\\":\\"${hook}\\",\\"at\\":\\"%s\\"",e(MIG_AT);`,
    `n=split("${variables.join(" ")}",k," ");`,
    'for(i=1;i<=n;i++)if(k[i] in ENVIRON)printf ",\\"%s\\":\\"%s\\"",k[i],e(ENVIRON[k[i]]);',
    'printf "}\\n"}',
  ].join("");
  return `#!/bin/sh
# Written by MIGlet: tells the agent on this machine that a job has ${hook}. It prints nothing and never fails.
{
  mig_awk=/usr/bin/awk; [ -x "$mig_awk" ] || mig_awk=/bin/awk
  mig_timeout=/usr/bin/timeout; [ -x "$mig_timeout" ] && mig_timeout="$mig_timeout -k 1 2" || mig_timeout=
  LC_ALL=C $mig_timeout "$mig_awk" -v MIG_AT="$(/bin/date -u +%Y-%m-%dT%H:%M:%SZ)" '${program}' >> '${spool}' || :
} </dev/null >/dev/null 2>&1 || :
${chained === undefined ? "exit 0" : `exec /bin/bash -e '${chained.replaceAll("'", "'\\''")}'`}
`;
}

export interface HookReport {
  hook: "started" | "completed";
  job: JobData;
}

/** A job has the same user as its hooks and can write what it likes: bounded, and only ever a hint about itself. */
export function parseHookLine(line: string): HookReport | undefined {
  let from: ReturnType<typeof asObject>;
  try {
    from = asObject(JSON.parse(line));
  } catch {
    return undefined;
  }
  if (from === undefined) return undefined;
  const hook = from["hook"];
  if (hook !== "started" && hook !== "completed") return undefined;
  const attempt = Number(readText(from, "GITHUB_RUN_ATTEMPT") ?? Number.NaN);
  return {
    hook,
    job: {
      jobId: readText(from, "GITHUB_JOB") ?? "",
      runId: readText(from, "GITHUB_RUN_ID") ?? "",
      ...maybe("repository", readText(from, "GITHUB_REPOSITORY")),
      ...maybe("branch", readText(from, "GITHUB_REF_NAME") ?? readText(from, "GITHUB_REF")),
      ...maybe("commit", readText(from, "GITHUB_SHA")),
      ...maybe("workflow", readText(from, "GITHUB_WORKFLOW")),
      ...maybe("runnerName", readText(from, "RUNNER_NAME")),
      ...maybe("runAttempt", Number.isSafeInteger(attempt) ? attempt : undefined),
    },
  };
}
