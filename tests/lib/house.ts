import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { waitFor } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import {
  createAppKey,
  createTestCa,
  freePort,
  type Github,
  installRunner,
  type RunnerOptions,
  startGithub,
} from "@mig/sandbox";
import { type LabDatabase, newLabDatabase } from "../../apps/controller/tests/lab-database.ts";
import { furnish } from "../../apps/controller/tests/pglite-template.ts";
import { type Spawned, spawnAgent, spawnProgram, stopAll } from "./spawn.ts";

/**
 * A whole system for a test: stand-in GitHub, a real controller process, real MIGlet processes with stand-in
 * runners, all in one temporary directory and on loopback. `times` are a tenth of the field's.
 */
export interface House extends AsyncDisposable {
  readonly dir: string;
  readonly url: string;
  readonly github: Github;
  /** Undefined: it is embedded, below `dir`. */
  readonly databaseUrl: string | undefined;
  controller: Spawned;
  /** Starts the controller again on the same data and ports. */
  restartController(more?: string[]): Promise<void>;
  startVm(vmId: string, options?: VmOptions): Promise<Vm>;
  vm(vmId: string): Promise<Unknown>;
  /** Resolves when the VM's field has the value. */
  until(vmId: string, field: string, value: string, timeoutMs?: number): Promise<Unknown>;
  order(vmId: string, type: string, parameters?: object): Promise<Unknown>;
  /** Of the operator API, below /api/v1, with the key of the first start. */
  api(method: string, path: string, body?: object): Promise<{ status: number; body: Unknown }>;
  /** With `join`: a new enrolment token for VMs of pool-a. */
  joinToken(more?: object): Promise<string>;
}

export interface VmOptions {
  runner?: RunnerOptions;
  settings?: readonly string[];
  /** Register again after a job. */
  reuse?: boolean;
  channel?: string;
  /** Of the agent, beside what the house gives to all of them. */
  env?: Readonly<Record<string, string>>;
  /** Of a house that VMs join: this one instead of a new one. */
  joinToken?: string;
  /** Of such a house: settings by which the VM joins, instead of an enrolment token. */
  joinBy?: readonly string[];
  /** The authority that the agent trusts, in place of the house's. */
  caPath?: string;
}

export interface Vm {
  readonly vmId: string;
  readonly home: string;
  agent: Spawned;
  /** Starts the agent again, as a service manager would. */
  restart(): void;
}

export interface HouseOptions {
  /** Arguments of mig-controller in place of the development ones. */
  controllerArgs?: readonly string[];
  databaseUrl?: string;
  /** The embedded database, also when there is a server. */
  embedded?: boolean;
  /** Of the controller, beside what the house gives it. */
  moreArgs?: readonly string[];
  /** In place of the house's times of silence. */
  paces?: readonly string[];
  /** A controller that knows its callers, and VMs that join it with an enrolment token. */
  join?: boolean;
  /** Of such a house: which machines pool-a takes by what their cloud says, and the controller's settings for it. */
  clouds?: { readonly policy: object; readonly settings: object };
  /** The controller speaks TLS with an authority of its own, which this process and the agents trust. */
  tls?: boolean;
  /** Another agent than the one that tsc has built. */
  agent?: { program?: string; env?: Readonly<Record<string, string>> };
}

export async function openHouse(options: HouseOptions = {}): Promise<House> {
  const dir = await mkdtemp(join(tmpdir(), "mig-house-"));
  const key = createAppKey();
  const github = await startGithub({ publicKeyPem: key.publicKeyPem, pollMs: 1_000, sessionTtlMs: 1_000 });
  const own = options.databaseUrl === undefined ? await databaseFor(join(dir, "data"), options) : undefined;
  const databaseUrl = options.databaseUrl ?? own?.databaseUrl;
  const port = await freePort();
  const grpcPort = await freePort();
  const keyPath = join(dir, "app.pem");
  await writeFile(keyPath, key.privateKeyPem, { mode: 0o600 });
  const configPath = join(dir, "controller.yaml");
  const pool = {
    runner_url: `${github.webUrl}/acme`,
    runner_group: "Default",
    labels: ["self-hosted", "linux", "x64"],
  };
  const reusing = { id: "pool-reuse", ...pool, registration: "jit", reuse: true };
  const known = {
    orgs: [{ id: "acme", github: `${github.webUrl}/acme`, app: "default" }],
    pools: [
      { org_id: "acme", ...reusing },
      {
        ...{ id: "pool-a", org_id: "acme", ...pool, registration: "jit" },
        ...(options.clouds === undefined ? {} : { join: options.clouds.policy }),
      },
    ],
  };
  const config = {
    ...(options.join === true ? known : { pools: [reusing] }),
    ...(options.clouds === undefined ? {} : { join: options.clouds.settings }),
    github: { api_url: github.url, app_id: String(github.appId), private_key_file: keyPath },
    default_pool: { ...pool, registration: "jit" },
  };
  await writeFile(configPath, JSON.stringify(config));
  const tls = options.tls === true ? await certify(dir) : undefined;
  const url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`;
  const paces = options.paces ?? [
    "--heartbeat-interval",
    "1s",
    "--unreachable-after",
    "4s",
    "--lost-after",
    "10s",
    "--lost-with-job-after",
    "30s",
  ];
  const args = [
    ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", `127.0.0.1:${grpcPort}`],
    ...["--data-dir", join(dir, "data"), "--log-format", "json", "--command-ack-timeout", "1s"],
    // Tests share their processor with others; how it sheds load has tests of its own.
    ...["--limits-shed-load=false"],
    ...(databaseUrl === undefined ? [] : ["--database-url", databaseUrl]),
    ...(tls?.controllerArgs ?? []),
    ...(options.moreArgs ?? []),
    ...(options.controllerArgs ?? [
      ...(options.join === true ? [] : ["--dev"]),
      "--config",
      configPath,
      ...paces,
    ]),
  ];
  const startController = async (more: string[] = []): Promise<Spawned> => {
    const controller = spawnProgram("apps/controller/bin/mig-controller.js", [...args, ...more]);
    await waitFor(
      "the controller to answer",
      () => {
        if (controller.exitCode() !== undefined) throw new Error(JSON.stringify(controller.lines.at(-1)));
        return fetch(`${url}/livez`).then((answer) => answer.ok);
      },
      { timeoutMs: 40_000 },
    );
    return controller;
  };
  const controller = await startController();
  const firstKey = options.join === true ? await firstKeyOf(controller) : undefined;
  const api: House["api"] = async (method, path, body) => {
    const answer = await fetch(`${url}/api/v1/${path}`, {
      method,
      headers: {
        ...(firstKey === undefined ? {} : { authorization: `Bearer ${firstKey}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, body: asObject(text === "" ? {} : JSON.parse(text)) ?? {} };
  };
  const joinToken = async (more: object = {}): Promise<string> => {
    const { status, body } = await api("POST", "join-tokens", { pool_id: "pool-a", ...more });
    const token = readText(body, "token");
    if (token === undefined) throw new Error(`no enrolment token: ${status} ${JSON.stringify(body)}`);
    return token;
  };
  const get = async (path: string): Promise<Unknown> => (await api("GET", path)).body;

  const house: House = {
    dir,
    databaseUrl,
    url,
    github,
    controller,
    api,
    joinToken,
    async restartController(more) {
      house.controller = await startController(more);
    },
    async startVm(
      vmId,
      { runner = {}, settings = [], channel = "auto", reuse = false, caPath = tls?.caPath, ...given } = {},
    ) {
      const home = join(dir, vmId);
      const runnerDir = join(home, "actions-runner");
      await installRunner(runnerDir, { timeFactor: 0.02, ...runner });
      const poolId = reuse ? "pool-reuse" : "pool-a";
      const belonging = [`pool_id: ${poolId}`, `org_id: acme`];
      if (given.joinBy !== undefined) belonging.splice(0, 2, ...given.joinBy);
      else if (options.join === true) {
        const tokenPath = join(home, "join-token");
        const token = given.joinToken ?? (await joinToken({ pool_id: poolId }));
        await writeFile(tokenPath, `${token}\n`, { mode: 0o600 });
        belonging.splice(0, 2, `join: { token_path: "${tokenPath}" }`);
      }
      const yaml = [
        ...belonging,
        `vm_id: ${vmId}`,
        `controller: { endpoint: "${url}", channel: ${channel}${caPath === undefined ? "" : `, ca_path: "${caPath}"`} }`,
        `runner: { dir: "${runnerDir}", allow_root: true, reuse: ${reuse} }`,
        `state_dir: "${join(home, "state")}"`,
        `heartbeat: { interval: 1s }`,
        ...settings,
      ];
      await writeFile(join(home, "miglet.yaml"), `${yaml.join("\n")}\n`);
      const { program, env } = options.agent ?? {};
      const start = (): Spawned =>
        spawnAgent(["--config", join(home, "miglet.yaml")], { ...env, ...given.env }, program);
      const vm: Vm = {
        vmId,
        home,
        agent: start(),
        restart() {
          vm.agent = start();
        },
      };
      return vm;
    },
    vm: (vmId) => get(`vms/${vmId}`),
    until: (vmId, field, value, timeoutMs = 30_000) =>
      waitFor(
        `${vmId} to have ${field} ${value}`,
        async () => {
          const vm = await get(`vms/${vmId}`);
          return readText(vm, field) === value ? vm : undefined;
        },
        { timeoutMs },
      ),
    async order(vmId, type, parameters = {}) {
      const { status, body } = await api("POST", `vms/${vmId}/commands`, { type, parameters });
      return { http: status, ...body };
    },
    async [Symbol.asyncDispose]() {
      await stopRunners(dir);
      await stopAll();
      await own?.drop();
      await github.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
  return house;
}

async function databaseFor(dataDir: string, { embedded = false }: HouseOptions): Promise<LabDatabase> {
  if (!embedded) return newLabDatabase(dataDir);
  await furnish(dataDir);
  return { databaseUrl: undefined, drop: async () => {} };
}

/** A controller's first start tells its first key to whoever starts it. */
function firstKeyOf(controller: Spawned): Promise<string> {
  return waitFor("the first key", () =>
    controller.lines.map(({ msg }) => /mgk_\w+/.exec(String(msg))?.[0]).find((key) => key !== undefined),
  );
}

/** A certificate for the controller of a house. */
async function certify(dir: string): Promise<{ caPath: string; controllerArgs: string[] }> {
  const ca = await createTestCa();
  const { certPem, keyPem } = await ca.issue({ hosts: ["127.0.0.1"] });
  const [caPath, certPath, keyPath] = ["ca.pem", "tls.crt", "tls.key"].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(caPath, ca.caPem);
  await writeFile(certPath, certPem);
  await writeFile(keyPath, keyPem, { mode: 0o600 });
  setDefaultCACertificates([...getCACertificates(), ca.caPem]);
  return { caPath, controllerArgs: ["--tls-cert-file", certPath, "--tls-key-file", keyPath] };
}

/** Runners outlive their agents on purpose; those of this house end with it. Found by the directory they work in. */
async function stopRunners(dir: string): Promise<void> {
  for (const entry of await readdir("/proc").catch(() => [])) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    const command = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    if (!command.includes(`${dir}/`) || !command.includes("actions-runner/")) continue;
    try {
      process.kill(Number(entry), "SIGKILL");
    } catch {
      // It has just ended by itself.
    }
  }
}
