/** What the tests of this package share: a GitHub, installed runners, and programs with their output. */
import { type ChildProcess, spawn } from "node:child_process";
import { createSign } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import {
  createAppKey,
  type Github,
  type GithubOptions,
  type InstalledRunner,
  installRunner,
  type RunnerOptions,
  startGithub,
} from "@mig/sandbox";

export const timeFactor = 0.02;
export const appKey = createAppKey();

export class Program {
  readonly child: ChildProcess;
  readonly exited: Promise<number | string>;
  stdout = "";
  stderr = "";
  chunks: string[] = [];

  constructor(path: string, args: readonly string[], folder: string, environment: NodeJS.ProcessEnv) {
    this.child = spawn(path, [...args], {
      cwd: folder,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: environment,
    });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.chunks.push(text);
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.exited = new Promise((resolve) => {
      this.child.once("close", (code, signal) => resolve(signal ?? code ?? -1));
    });
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error("The program did not start.");
    return this.child.pid;
  }

  prints(pattern: RegExp): Promise<boolean> {
    return waitFor(`${pattern} from a program`, () => pattern.test(this.stdout + this.stderr));
  }
}

export class Lab {
  readonly github: Github;
  readonly folder: string;
  readonly #programs: Program[] = [];
  #runners = 0;

  private constructor(github: Github, folder: string) {
    this.github = github;
    this.folder = folder;
  }

  static async open(options: GithubOptions = {}): Promise<Lab> {
    return new Lab(
      await startGithub({ publicKeyPem: appKey.publicKeyPem, ...options }),
      await mkdtemp(join(tmpdir(), "mig-sandbox-")),
    );
  }

  async install(options: RunnerOptions = {}): Promise<InstalledRunner> {
    this.#runners += 1;
    return await installRunner(join(this.folder, `runner-${this.#runners}`), { timeFactor, ...options });
  }

  start(path: string, args: readonly string[] = [], environment: NodeJS.ProcessEnv = {}): Program {
    const folder = path.replace(/\/(bin\/)?[^/]+$/, "");
    const program = new Program(path, args, folder, {
      PATH: process.env["PATH"],
      HOME: this.folder,
      LANG: "C.UTF-8",
      RUNNER_ALLOW_RUNASROOT: "1",
      ...environment,
    });
    this.#programs.push(program);
    return program;
  }

  /** A registration token as config.sh gets it, straight from the REST API. */
  async token(kind: "registration" | "remove" = "registration"): Promise<string> {
    const body = await this.rest("POST", `/orgs/acme/actions/runners/${kind}-token`);
    return String(body.json["token"]);
  }

  async rest(method: string, path: string, body?: unknown) {
    const response = await fetch(`${this.github.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${await this.installationToken()}`, "user-agent": "mig-tests" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>;
    return { status: response.status, headers: response.headers, json };
  }

  async installationToken(): Promise<string> {
    const response = await fetch(`${this.github.url}/app/installations/1/access_tokens`, {
      method: "POST",
      headers: { authorization: `Bearer ${appJwt({})}`, "user-agent": "mig-tests" },
    });
    return ((await response.json()) as { token: string }).token;
  }

  /** Configures by token and answers the finished program. */
  async configure(runner: InstalledRunner, args: readonly string[] = []): Promise<Program> {
    const program = this.start(
      runner.configPath,
      ["--unattended", "--url", `${this.github.webUrl}/acme`, ...args],
      { ACTIONS_RUNNER_INPUT_TOKEN: await this.token() },
    );
    await program.exited;
    return program;
  }

  /** Starts the Listener of a fresh JIT runner and waits until GitHub sees it online. */
  async startJit(
    runner: InstalledRunner,
    environment: NodeJS.ProcessEnv = {},
    path: string = runner.listenerPath,
  ): Promise<Program> {
    const name = `vm-${this.#runners}`;
    const created = await this.rest("POST", "/orgs/acme/actions/runners/generate-jitconfig", {
      name,
      runner_group_id: 1,
      labels: ["self-hosted"],
    });
    const program = this.start(path, path === runner.listenerPath ? ["run"] : [], {
      ACTIONS_RUNNER_INPUT_JITCONFIG: String(created.json["encoded_jit_config"]),
      ...environment,
    });
    await program.prints(/Listening for Jobs\n/);
    return program;
  }

  async jobIs(id: number, status: "in_progress" | "completed") {
    return await waitFor(`job ${id} ${status}`, async () => {
      const job = await this.github.job(id);
      return job?.status === status ? job : undefined;
    });
  }

  /** Waits until the first step of the job has begun. */
  async jobWorks(id: number) {
    return await waitFor(`job ${id} has begun a step`, async () => {
      const job = await this.github.job(id);
      return job?.step ? job : undefined;
    });
  }

  /** The process id of the Listener, which run.sh keeps to itself. */
  listenerOf({ listenerPath }: InstalledRunner): number {
    return oneProcess(new RegExp(`^${listenerPath} .*Runner.Listener`));
  }

  workerOf({ root }: InstalledRunner): number {
    return oneProcess(new RegExp(`^${root}/bin/Runner.Worker .*spawnclient`));
  }

  /** All `_diag` logs of one program in one text. */
  diag({ root }: InstalledRunner, program: "Runner" | "Worker"): string {
    const folder = join(root, "_diag");
    return readdirSync(folder)
      .filter((name) => name.startsWith(`${program}_`))
      .map((name) => readFileSync(join(folder, name), "utf8"))
      .join("");
  }

  async close(): Promise<void> {
    for (const program of this.#programs) {
      try {
        process.kill(-program.pid, "SIGKILL");
      } catch {
        // The whole group has ended already.
      }
    }
    await Promise.all(this.#programs.map(({ exited }) => exited));
    await this.github.close();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** An App JWT as a controller makes it, with claims that a test may spoil. */
export function appJwt(claims: Readonly<Record<string, unknown>>, key = appKey): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const content = `${part({ alg: "RS256", typ: "JWT" })}.${part({ iat: now - 60, exp: now + 540, iss: "1234", ...claims })}`;
  return `${content}.${createSign("RSA-SHA256").update(content).sign(key.privateKeyPem, "base64url")}`;
}

/** Never answers 0: a signal to "process 0" would hit this very test run. */
function oneProcess(commandPattern: RegExp): number {
  const pid = readdirSync("/proc")
    .map(Number)
    .find((candidate) => candidate > 0 && commandPattern.test(commandLine(candidate)));
  if (pid === undefined) throw new Error(`No process has a command line like ${commandPattern}.`);
  return pid;
}

export function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}
