import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Log, silentLog, waitFor } from "@mig/kit";
import type { JobData } from "@mig/protocol";
import { type Github, installRunner, type JobRequest, type RunnerOptions, startGithub } from "@mig/sandbox";
import { type ConfigureSettings, configureRunner } from "../src/runner/configure.ts";
import type { RunnerEnvironment } from "../src/runner/environment.ts";
import type { JobObservation } from "../src/runner/evidence.ts";
import type { RunnerExit } from "../src/runner/exit.ts";
import { type InstalledRunner, inspectRunner } from "../src/runner/installed-runner.ts";
import { argumentsOf, hasEnded, readProcStat } from "../src/runner/proc.ts";
import {
  adoptRunner,
  type NotedRecord,
  type RunnerNews,
  type RunnerTiming,
  type SupervisedRunner,
  type SuperviseSettings,
  startRunner,
} from "../src/runner/supervise.ts";

/** What the tests of supervision share: a GitHub, an installed runner, and everything that is said about it. */
export interface Watched {
  runner: SupervisedRunner;
  seen: JobObservation[];
  news: RunnerNews[];
  exits: RunnerExit[];
  records: NotedRecord[];
  settings: SuperviseSettings;
}

export const quick: Partial<RunnerTiming> = {
  watchMs: 20,
  lookMs: 1500,
  identityMs: 1500,
  goneMs: 300,
  ghostMs: 60_000,
  relaunchMs: 20,
  updateMs: 500,
  orphanMs: 5000,
  usageMs: 50,
};

// The stand-in reaches its GitHub without a proxy and may run as root here.
export const environment: RunnerEnvironment = {
  host: { ...process.env, http_proxy: undefined, https_proxy: undefined, SECRET_OF_AGENT: "s3cret" },
  extra: { RUNNER_ALLOW_RUNASROOT: "1" },
};

export const kinds = (watched: Pick<Watched, "seen">): string[] => watched.seen.map((one) => one.kind);
export const troubles = ({ news }: Pick<Watched, "news">): string[] =>
  news.flatMap((one) => (one.kind === "trouble" ? [one.what] : []));
export const stages = ({ news }: Pick<Watched, "news">): string[] =>
  news.flatMap((one) => (one.kind === "stage" ? [one.stage] : []));

export interface RegisterChanges extends Partial<SuperviseSettings> {
  name?: string;
}

export class RunnerLab {
  readonly github: Github;
  readonly folder: string;
  readonly #runners: SupervisedRunner[] = [];
  readonly logged: Record<string, unknown>[] = [];

  private constructor(github: Github, folder: string) {
    this.github = github;
    this.folder = folder;
  }

  static async open(options: Parameters<typeof startGithub>[0] = {}): Promise<RunnerLab> {
    const folder = await mkdtemp(join(tmpdir(), "mig-runner-"));
    // Another user must come through (runner-contract §1.6).
    await chmod(folder, 0o755);
    return new RunnerLab(await startGithub({ pollMs: 300, ...options }), folder);
  }

  get dir(): string {
    return join(this.folder, "runner");
  }

  get workspace(): string {
    return join(this.dir, "_work", "app", "app");
  }

  /** Keeps warnings, for what is to be said once. */
  get log(): Log {
    const keep: Log = { ...silentLog, warn: (fields, text) => void this.logged.push({ ...fields, text }) };
    return { ...keep, child: () => keep };
  }

  async install(options: RunnerOptions = {}): Promise<InstalledRunner> {
    await installRunner(this.dir, { timeFactor: 0.02, ...options });
    return inspectRunner(this.dir, false);
  }

  async registrationToken(): Promise<string> {
    const answer = await fetch(`${this.github.url}/orgs/acme/actions/runners/registration-token`, {
      method: "POST",
      headers: { authorization: `Bearer ${await this.#installationToken()}` },
    });
    return ((await answer.json()) as { token: string }).token;
  }

  async configure(installed: InstalledRunner, changes: Partial<ConfigureSettings> = {}) {
    return configureRunner({
      installed,
      environment,
      disableUpdate: true,
      registration: {
        name: "vm-1-1",
        runnerUrl: `${this.github.webUrl}/acme`,
        labels: ["linux", "mig"],
        material: { kind: "token", token: await this.registrationToken() },
      },
      ...changes,
    });
  }

  async register(options: RunnerOptions = {}, changes: RegisterChanges = {}): Promise<SuperviseSettings> {
    const installed = await this.install(options);
    if (changes.environment?.user !== undefined) {
      const { uid, gid } = changes.environment.user;
      execFileSync("chown", ["-R", `${uid}:${gid}`, this.dir]);
    }
    const configured = await this.configure(installed, {
      ...(changes.environment === undefined ? {} : { environment: changes.environment }),
    });
    const stateDir = join(this.folder, "state");
    await mkdir(stateDir, { recursive: true });
    return {
      installed,
      ...configured,
      labels: ["linux", "mig"],
      stateDir,
      bootId: "boot",
      environment,
      log: this.log,
      scope: "none",
      ...changes,
      timing: { ...quick, ...changes.timing },
    };
  }

  async start(settings: SuperviseSettings): Promise<Watched> {
    const watched = blank();
    const runner = await startRunner(settings, listenerOf(watched));
    this.#runners.push(runner);
    return { ...watched, runner, settings };
  }

  /** Registers, starts and waits until it listens. */
  async listen(options: RunnerOptions = {}, changes: RegisterChanges = {}): Promise<Watched> {
    const watched = await this.start(await this.register(options, changes));
    await waitFor("the runner to listen", () => kinds(watched).includes("listening"));
    return watched;
  }

  /** As a new process of the agent does after the one that watched has died. */
  async adopt({ settings }: Pick<Watched, "settings">, record: NotedRecord, job?: JobData): Promise<Watched> {
    const watched = blank();
    // On disk and back, as the state file does it.
    const kept = JSON.parse(JSON.stringify(record)) as NotedRecord;
    const { jitConfig: _secret, ...known } = settings;
    const runner = await adoptRunner(kept, job, known, listenerOf(watched));
    this.#runners.push(runner);
    return { ...watched, runner, settings };
  }

  async run(job: JobRequest, watched: Watched): Promise<Watched> {
    await this.github.queueJob(job);
    await this.ended(watched);
    return watched;
  }

  ended(watched: Pick<Watched, "exits">, timeoutMs = 20_000): Promise<boolean> {
    return waitFor("the end of the runner", () => watched.exits.length === 1, { timeoutMs });
  }

  /** Every process that has this lab's folder among its arguments or is in it. */
  async processes(pattern: RegExp): Promise<number[]> {
    const found: number[] = [];
    for (const name of await readdir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const words = (await argumentsOf(Number(name))).join(" ");
      if (!pattern.test(words)) continue;
      const where = await readlink(`/proc/${name}/cwd`).catch(() => "");
      if (words.includes(this.folder) || where.startsWith(this.folder)) found.push(Number(name));
    }
    return found;
  }

  async close(): Promise<void> {
    for (const runner of this.#runners.splice(0)) {
      await runner.kill();
      await runner.release();
    }
    for (const pid of await this.processes(/Runner\.|run-helper|run\.sh|config\.sh/)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    await this.github.close();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async #installationToken(): Promise<string> {
    const header = Buffer.from('{"alg":"RS256","typ":"JWT"}').toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const claims = Buffer.from(JSON.stringify({ iss: "1234", iat: now - 30, exp: now + 300 })).toString(
      "base64url",
    );
    const signature = Buffer.from("unverified").toString("base64url");
    const answer = await fetch(`${this.github.url}/app/installations/1/access_tokens`, {
      method: "POST",
      headers: { authorization: `Bearer ${header}.${claims}.${signature}` },
    });
    return ((await answer.json()) as { token: string }).token;
  }
}

type Heard = Pick<Watched, "seen" | "news" | "exits" | "records">;
const blank = (): Heard => ({ seen: [], news: [], exits: [], records: [] });

export function listenerOf(heard: Heard) {
  return {
    onObservation: (one: JobObservation) => void heard.seen.push(one),
    onNews: (one: RunnerNews) => void heard.news.push(one),
    onExit: (exit: RunnerExit) => void heard.exits.push(exit),
    onRecord: (record: NotedRecord) => void heard.records.push(record),
  };
}

export const isThere = (path: string): Promise<boolean> =>
  readFile(path).then(
    () => true,
    () => false,
  );

/** Ended, whether or not somebody has waited for it. */
export async function isGone(pid: number): Promise<boolean> {
  const stat = await readProcStat(pid);
  return stat === undefined || hasEnded(stat);
}

export async function statusOf(pid: number, key: string): Promise<string> {
  const text = await readFile(`/proc/${pid}/status`, "latin1");
  return new RegExp(`^${key}:[ \\t]*(.*)$`, "m").exec(text)?.[1]?.trim() ?? "";
}
