/**
 * One job: set-up → started hook → steps → completed hook → orphans → report (runner-contract §6.2, §3.6).
 * A failed set-up runs neither hook. A cancel ends the current step and skips to what always runs, hooks included.
 * A shutdown ends the current step and skips everything, the completed hook included, and the job has failed.
 */
import { randomUUID } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { delimiter, join } from "node:path";
import type { Writable } from "node:stream";
import type { JobMessage } from "../../github/job-message.ts";
import type { TaskResult } from "../../github/types.ts";
import { callServer } from "../call-server.ts";
import { type DiagLog, recordPerf } from "../diag-log.ts";
import type { Installation } from "../installation.ts";
import { isScenarioName, type JobScript, jobScript, type Step } from "../scenarios.ts";
import { githubContext, type JobFolders, jobEnvironment, makeJobFolders } from "./job-folders.ts";
import { killOrphans, listProcesses } from "./orphans.ts";
import { runProcess } from "./run-process.ts";

const postSeconds = 0.5;
const reportTries = 5;

export interface Interruption {
  readonly cancel: AbortSignal;
  /** Its reason is `system` when the operating system shuts down. */
  readonly shutdown: AbortSignal;
}

/** Runs the job, reports it, and answers its result. */
export async function runJob(
  installation: Installation,
  log: DiagLog,
  message: JobMessage,
  interruption: Interruption,
): Promise<TaskResult> {
  log.info("JobRunner", `Job ID ${message.jobId}`);
  log.info("Worker", `Job message:\n${JSON.stringify(message, undefined, 2)}`);
  const job = new JobRun(installation, log, message, interruption);
  const result = await job.run();
  log.info("JobRunner", `Job result after all job steps finish: ${result}`);
  await job.report(result);
  return result;
}

class JobRun {
  readonly #installation: Installation;
  readonly #log: DiagLog;
  readonly #message: JobMessage;
  readonly #interruption: Interruption;
  readonly #script: JobScript;
  readonly #github: ReadonlyMap<string, string>;
  readonly #folders: JobFolders;
  readonly #output: Writable;
  readonly #annotations: string[] = [];
  /** What `GITHUB_ENV` collected: for later steps, not for hooks. */
  readonly #stepEnvironment: Record<string, string> = {};
  #path = process.env["PATH"] ?? "";
  #failed = false;

  constructor(installation: Installation, log: DiagLog, message: JobMessage, interruption: Interruption) {
    this.#installation = installation;
    this.#log = log;
    this.#message = message;
    this.#interruption = interruption;
    const { scenario, overrides } = message.standIn;
    const name = isScenarioName(scenario) ? scenario : (installation.scenario ?? "ok");
    const own = isScenarioName(scenario) ? {} : installation.overrides;
    this.#script = jobScript(name, { ...own, ...overrides });
    this.#github = githubContext(message);
    this.#folders = makeJobFolders(installation, this.#github);
    const pages = join(installation.root, "_diag", "pages");
    mkdirSync(pages, { recursive: true });
    this.#output = createWriteStream(join(pages, `${message.jobId}.log`));
    this.#output.on("error", () => {});
  }

  async run(): Promise<TaskResult> {
    const { cancel, shutdown } = this.#interruption;
    const script = this.#script;
    recordPerf("Worker", "WorkerJobInitialized_0");
    await this.#installation.wait(script.setupSeconds ?? 0, AbortSignal.any([cancel, shutdown]));
    if (script.setupFails) {
      this.#annotations.push("Unable to resolve action `acme/missing@v1`, repository not found");
      return "Failed";
    }
    // Cancelled in the set-up: neither hook runs.
    if (shutdown.aborted) return this.#shutDown();
    if (cancel.aborted) return "Canceled";

    const known = listProcesses();
    const trackingId = `github_${randomUUID()}`;
    process.env["RUNNER_TRACKING_ID"] = trackingId;
    await this.#hook("started");
    for (const step of script.steps ?? []) {
      if (shutdown.aborted) break;
      if ((this.#failed || cancel.aborted) && !step.always) continue;
      await this.#step(step);
    }
    if (shutdown.aborted) return this.#shutDown();
    await this.#installation.wait(postSeconds, shutdown);
    if (!shutdown.aborted) await this.#hook("completed");
    if (shutdown.aborted) return this.#shutDown();
    for (const pid of killOrphans(trackingId, known)) {
      this.#say(`Terminate orphan process: pid (${pid})`);
    }
    if (cancel.aborted) return "Canceled";
    if (this.#failed) return "Failed";
    return script.result ?? "Succeeded";
  }

  #shutDown(): TaskResult {
    this.#annotations.push(
      this.#interruption.shutdown.reason === "system"
        ? `Operating system is shutting down for computer '${hostname()}'`
        : "The runner has received a shutdown signal. This can happen when the runner service is stopped, or a manually started runner is canceled.",
    );
    return "Failed";
  }

  async #step(step: Step): Promise<void> {
    const { durationMs, durationSeconds = 0, workerCrash } = this.#script;
    const ms = durationMs ?? durationSeconds * 1_000 * this.#installation.timeFactor;
    const path = join(this.#folders.temp, `${randomUUID()}.sh`);
    writeFileSync(path, step.run.replaceAll("{duration}", String(ms / 1_000)));
    this.#log.info("StepsRunner", `Processing step: DisplayName='${step.name}'`);
    const crashing = workerCrash && setTimeout(() => crash(workerCrash), ms / 2);
    await this.#process("bash", ["-e", path], step.always === true, this.#stepEnvironment, () => {
      void this.#post("steps", { jobId: this.#message.jobId, name: step.name }).catch(() => {});
    });
    clearTimeout(crashing);
  }

  /** Both hooks run under `always()`; their exit code is the job's (runner-contract §6.1, §6.5). */
  async #hook(which: "started" | "completed"): Promise<void> {
    const path = process.env[`ACTIONS_RUNNER_HOOK_JOB_${which.toUpperCase()}`];
    if (!path) return;
    this.#say(`A job ${which} hook has been configured by the self-hosted runner administrator`);
    this.#say(`##[group]Run '${path}'`);
    if (!/\.(sh|ps1|js)$/.test(path)) {
      const problem = `${path} is not a valid path to a script. Make sure it ends in '.sh', '.ps1' or '.js'.`;
      return this.#fail(problem);
    }
    if (!existsSync(path)) return this.#fail("File doesn't exist");
    if (path.endsWith(".js")) await this.#process(process.execPath, [path], true);
    else if (path.endsWith(".ps1")) await this.#process("pwsh", ["-command", `. '${path}'`], true);
    // The path goes unquoted into a command line, so one with blanks falls apart.
    else await this.#process("bash", ["-e", ...path.split(" ")], true);
  }

  async #process(
    command: string,
    args: readonly string[],
    always: boolean,
    extra: NodeJS.ProcessEnv = {},
    started: () => void = () => {},
  ): Promise<void> {
    const { cancel, shutdown } = this.#interruption;
    const files = this.#commandFiles();
    const code = await runProcess(this.#installation, {
      command,
      args,
      folder: this.#folders.workspace,
      environment: {
        ...process.env,
        ...extra,
        PATH: this.#path,
        ...jobEnvironment(this.#message, this.#github, this.#folders),
        ...files,
      },
      output: this.#output,
      // What always runs after a cancel must not be ended by that same cancel.
      stop: always && cancel.aborted ? shutdown : AbortSignal.any([cancel, shutdown]),
      started,
    });
    this.#applyCommandFiles(files);
    if (code !== 0) this.#fail(`Process completed with exit code ${code}.`);
  }

  #commandFiles(): Readonly<Record<string, string>> {
    const folder = join(this.#folders.temp, "_runner_file_commands");
    const names = { ENV: "set_env", PATH: "add_path", OUTPUT: "set_output", STATE: "save_state" };
    const entries = Object.entries({ ...names, STEP_SUMMARY: "step_summary" }).map(([name, file]) => {
      const path = join(folder, `${file}_${randomUUID()}`);
      writeFileSync(path, "");
      return [`GITHUB_${name}`, path];
    });
    return Object.fromEntries(entries);
  }

  #applyCommandFiles(files: Readonly<Record<string, string>>): void {
    const lines = (name: string) => {
      const path = files[name] ?? "";
      return existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
    };
    for (const line of lines("GITHUB_ENV")) {
      const at = line.indexOf("=");
      if (at > 0) this.#stepEnvironment[line.slice(0, at)] = line.slice(at + 1);
    }
    for (const folder of lines("GITHUB_PATH")) this.#path = `${folder}${delimiter}${this.#path}`;
  }

  #fail(problem: string): void {
    this.#failed = true;
    this.#annotations.push(problem);
    this.#say(`##[error]${problem}`);
  }

  #say(line: string): void {
    this.#output.write(`${line}\n`);
  }

  async report(result: TaskResult): Promise<void> {
    const { jobId } = this.#message;
    const body = { jobId, conclusion: result, annotations: this.#annotations, reportedBy: "worker" };
    for (let tries = 1; tries <= reportTries; tries += 1) {
      try {
        await this.#post("completejob", body);
        break;
      } catch (error) {
        this.#log.error("JobRunner", `Job completion could not be reported: ${String(error)}`);
        await this.#installation.wait(5);
      }
    }
    await new Promise<void>((resolve) => this.#output.end(resolve));
  }

  async #post(path: string, body: unknown): Promise<void> {
    const url = `${this.#message.runServiceUrl}${path}`;
    const answer = await callServer({ method: "POST", url, authorization: "Bearer job", body });
    if (answer.status >= 500) throw new Error(`${path} answered ${answer.status}.`);
  }
}

function crash({ exitCode, stderr }: { readonly exitCode: number; readonly stderr: string }): void {
  process.stderr.write(`${stderr}\n`);
  process.exit(exitCode);
}
