import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { pause, waitFor } from "@mig/kit";
import { asObject, readText } from "@mig/protocol";
import { createAppKey, freePort, type Github, startGithub } from "@mig/sandbox";
import { isPortFree } from "./is-port-free.ts";
import { type Program, startProgram } from "./program.ts";
import { createStory, type Story } from "./story.ts";
import { prepareVm } from "./vm.ts";

export interface DevSettings {
  vms: number;
  port: number | undefined;
  once: boolean;
  dir: string;
  isJson: boolean;
}

/**
 * The whole system on one machine, with real processes and sockets: a stand-in for GitHub in this process, a
 * controller with its database inside, and a MIGlet with a stand-in runner for each VM. Each runner gets one job.
 *
 * In order: GitHub, controller, VMs; then serve until `signal`. At the end everything is told to stop in the reverse
 * order, politely first.
 */
export async function dev(
  settings: DevSettings,
  signal: AbortSignal,
  out: (text: string) => void,
): Promise<number> {
  const dir = resolve(settings.dir);
  await emptyOwnDirectory(dir);
  const story = createStory(out, settings.isJson);
  const started: Program[] = [];
  const over = new AbortController();
  const key = createAppKey();
  const github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234, pollMs: 5_000 });
  story.tell("GitHub", `a stand-in answers on ${github.url}; nothing here talks to the real one`);
  try {
    const controllerUrl = await startController(dir, settings, github, key.privateKeyPem, story, started);
    const vms = Array.from({ length: settings.vms }, (_, i) => `vm-${i + 1}`);
    const jobs = feedJobs(github, story, AbortSignal.any([signal, over.signal]));
    jobs.catch(() => {}); // told below, where it is awaited
    const agents = await Promise.all(vms.map((vmId) => prepareVm(dir, vmId, controllerUrl)));
    for (const agent of agents) started.push(startVm(agent, story));
    await untilEnded(controllerUrl, vms, signal);
    const failed = signal.aborted ? [] : await tellFailures(github, controllerUrl, vms, dir, story);
    if (!signal.aborted && !settings.once) {
      const next = await prepareVm(dir, `vm-${settings.vms + 1}`, controllerUrl);
      const url = controllerUrl;
      story.say(
        whatNext(url, next.vmId, shown(next.configPath), failed.length === 0),
        `serves on ${url} until Ctrl-C`,
      );
      await aborted(signal);
    }
    over.abort();
    await jobs;
    return failed.length === 0 ? 0 : 1;
  } catch (error) {
    if (signal.aborted) return 0;
    const problem = error instanceof Error ? error.message : String(error);
    story.tell("dev", `stops: ${problem}; the logs are in ${shown(dir)}`);
    return 1;
  } finally {
    over.abort();
    for (const program of started.reverse()) await program.stop();
    await github.close();
  }
}

async function startController(
  dir: string,
  settings: DevSettings,
  github: Github,
  privateKeyPem: string,
  story: Story,
  started: Program[],
): Promise<string> {
  const port = settings.port ?? ((await isPortFree(8080)) ? 8080 : await freePort());
  const grpcPort = (await isPortFree(50051)) ? 50051 : await freePort();
  const keyPath = join(dir, "github-app.pem");
  await writeFile(keyPath, privateKeyPem, { mode: 0o600 });
  const configPath = join(dir, "controller.yaml");
  const labels = ["self-hosted", "linux", "x64"];
  await writeFile(
    configPath,
    // JSON is YAML.
    JSON.stringify(
      {
        github: { api_url: github.url, app_id: String(github.appId), private_key_file: keyPath },
        default_pool: {
          runner_url: `${github.webUrl}/acme`,
          runner_group: "Default",
          labels,
          registration: "jit",
        },
      },
      null,
      2,
    ),
  );
  const listen = ["--listen", `127.0.0.1:${port}`, "--grpc-listen", `127.0.0.1:${grpcPort}`];
  const controller = startProgram({
    name: "controller",
    bin: "apps/controller/bin/mig-controller.js",
    args: [
      "--dev",
      "--config",
      configPath,
      "--data-dir",
      join(dir, "controller"),
      ...listen,
      "--log-format",
      "json",
    ],
    logPath: join(dir, "controller.log"),
    onLine: (line) => story.hearController(line),
  });
  started.push(controller);
  const url = `http://127.0.0.1:${port}`;
  // Somebody else may hold the port and say nothing: a controller that has ended is not waited for.
  const over = new AbortController();
  controller.failed.catch(() => over.abort());
  const up = async () => {
    const signal = AbortSignal.any([over.signal, AbortSignal.timeout(2_000)]);
    return over.signal.aborted || (await fetch(`${url}/livez`, { signal })).ok;
  };
  await Promise.race([waitFor("the controller to answer", up, { timeoutMs: 60_000 }), controller.failed]);
  story.tell(
    "controller",
    `serves HTTP and gRPC on ${url}, its database in ${shown(join(dir, "controller"))}`,
  );
  return url;
}

function startVm(agent: { vmId: string; configPath: string; logPath: string }, story: Story): Program {
  story.tell(agent.vmId, "boots: a MIGlet starts");
  return startProgram({
    name: agent.vmId,
    bin: "apps/miglet/bin/miglet.js",
    args: ["--config", agent.configPath],
    logPath: agent.logPath,
    onLine: () => {},
    onExit: (how) =>
      story.tell(agent.vmId, `the MIGlet has ended (${how}); on a cloud VM it would power off now`),
  });
}

/** One job for each runner that shows up, whoever started it. */
async function feedJobs(github: Github, story: Story, signal: AbortSignal): Promise<void> {
  const fed = new Set<number>();
  while (!signal.aborted) {
    for (const runner of await github.runners()) {
      if (fed.has(runner.id) || runner.status !== "online") continue;
      fed.add(runner.id);
      const displayName = `build (linux, ${fed.size})`;
      const labels = ["self-hosted", "linux"];
      await github.queueJob({ displayName, labels, scenario: "ok", overrides: { durationMs: 2_500 } });
      story.tell("GitHub", `somebody pushed: the job "${displayName}" waits for a runner`);
    }
    await pause(200, signal);
  }
}

async function untilEnded(controllerUrl: string, vms: string[], signal: AbortSignal): Promise<void> {
  const left = new Set(vms);
  while (left.size > 0 && !signal.aborted) {
    for (const vmId of [...left]) {
      const answer = await fetch(`${controllerUrl}/api/v1/vms/${vmId}`);
      const vm = asObject(await answer.json().catch(() => ({}))) ?? {};
      const state = readText(vm, "state");
      if (state === "terminated" || state === "lost") left.delete(vmId);
    }
    await pause(200, signal);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** A VM that ended without having run its job: why, and where to read more. */
async function tellFailures(
  github: Github,
  controllerUrl: string,
  vms: string[],
  dir: string,
  story: Story,
): Promise<string[]> {
  const jobs = await github.jobs();
  const failed = vms.filter((vmId) => {
    const job = jobs.find((one) => one.runnerName?.startsWith(`${vmId}-`));
    return job?.result !== "Succeeded";
  });
  for (const vmId of failed) {
    const vm = asObject(await (await fetch(`${controllerUrl}/api/v1/vms/${vmId}`)).json()) ?? {};
    const why = readText(asObject(vm["problem"]) ?? {}, "message") ?? `it ended as ${readText(vm, "state")}`;
    story.tell(vmId, `has not run its job: ${why}`);
    story.tell(vmId, `see ${shown(join(dir, vmId, "miglet.log"))} and ${shown(join(dir, vmId, "state"))}`);
  }
  return failed;
}

/** Empties the directory of an earlier run. Anything else that is there is somebody's and stays. */
async function emptyOwnDirectory(dir: string): Promise<void> {
  const mark = join(dir, ".mig-dev");
  const found = await readdir(dir).catch((): string[] => []);
  if (found.length > 0 && !found.includes(".mig-dev")) {
    throw new Error(`${dir} holds files that migctl dev has not made; give it an empty one with --dir`);
  }
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  await writeFile(mark, "made by migctl dev; emptied at its next start\n");
}

/** As a person would type it from here. */
function shown(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith("..") ? path : fromHere;
}

function whatNext(url: string, nextVm: string, nextConfig: string, allWell: boolean): string {
  // Where migctl looks by itself.
  const there = url === "http://127.0.0.1:8080" ? "" : ` --url ${url}`;
  return `
${allWell ? "That was the whole life of a VM." : "Not every VM has run its job; see above."} Everything goes on serving; Ctrl-C ends it. Try, in another terminal:

  npx migctl vm ls${there}
      what the controller knows; its API is described on ${url}/docs
  npx miglet --config ${nextConfig}
      one more VM, ${nextVm}, which gets a job, too
  npx migctl vm drain ${nextVm} --wait${there}
      tells it to finish its job and leave (before it has started: as soon as it comes)

With the real GitHub: README.md, "With your own GitHub App".
`;
}
