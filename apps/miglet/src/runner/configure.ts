import { spawn } from "node:child_process";
import { hideValue, redactText } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { asObject, maybe } from "@mig/protocol";
import { buildEnvironment, type RunnerEnvironment, spawnUser } from "./environment.ts";
import { type InstalledRunner, parseRunnerFile, readRunnerFile } from "./installed-runner.ts";
import { endOrphanedConfig } from "./orphaned-config.ts";

/** What `register_runner` gives: exactly one of the two materials. */
export interface Registration {
  name: string;
  runnerUrl?: string;
  runnerGroup?: string;
  labels: string[];
  material: { kind: "token"; token: string } | { kind: "jit"; jitConfig: string };
}

export interface ConfigureSettings {
  installed: InstalledRunner;
  registration: Registration;
  environment: RunnerEnvironment;
  disableUpdate: boolean;
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** The runner as it is registered now. */
export interface ConfiguredRunner {
  name: string;
  id?: number;
}

/** Three tries of 100 s inside config.sh and their pauses fit (runner-contract §2.7). */
const timeoutDefaultMs = 5 * 60_000;
const outputBytesMax = 16 * 1024;

/** Registers the runner, or looks into its JIT config, which needs no registration. Throws `runner_configure_failed`. */
export async function configureRunner(settings: ConfigureSettings): Promise<ConfiguredRunner> {
  const { installed, registration } = settings;
  if (registration.material.kind === "jit")
    return readJitConfig(registration.material.jitConfig, registration.name);
  const { token } = registration.material;
  const forget = hideValue(token);
  try {
    await endOrphanedConfig(installed.dir);
    const { code, output } = await runConfigScript(settings, token);
    if (code !== 0) throw failed(`config.sh ended with ${code}: ${lastWords(output, token)}`);
    const written = await readRunnerFile(installed.dir);
    if (written === undefined) throw failed("config.sh ended with 0 but wrote no .runner file.");
    // `--ephemeral true` and the like silently make a runner that takes job after job (runner-contract trap 38).
    if (!written.ephemeral) throw failed("The registered runner is not ephemeral: .runner does not say so.");
    return { name: written.name ?? registration.name, ...maybe("id", written.id) };
  } finally {
    forget();
  }
}

async function runConfigScript(
  {
    installed,
    registration,
    environment,
    disableUpdate,
    timeoutMs = timeoutDefaultMs,
    signal,
  }: ConfigureSettings,
  token: string,
): Promise<{ code: number | string; output: string }> {
  const { name, runnerUrl, runnerGroup, labels } = registration;
  if (runnerUrl === undefined) throw failed("register_runner gave a token but no runner_url.");
  const args = ["--unattended", "--ephemeral", "--replace", "--url", runnerUrl, "--name", name];
  if (disableUpdate) args.push("--disableupdate");
  if (runnerGroup !== undefined && runnerGroup !== "") args.push("--runnergroup", runnerGroup);
  if (labels.length > 0) args.push("--labels", labels.join(","));
  // The runner takes a value that begins with "-" for an option (runner-contract §2.2).
  const odd = [name, runnerUrl, runnerGroup ?? "", ...labels].find((value) => /^-|[\0\n]/.test(value));
  if (odd !== undefined) throw failed(`config.sh cannot be given ${JSON.stringify(odd)}.`);

  const child = spawn(installed.configScript, args, {
    cwd: installed.dir,
    // Never in argv, which every process on the machine can read.
    env: buildEnvironment(environment, { ACTIONS_RUNNER_INPUT_TOKEN: token }),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    ...spawnUser(environment),
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-outputBytesMax);
    });
  return new Promise((resolve, reject) => {
    const stop = (why: string): void => {
      killGroup(child.pid);
      reject(failed(why));
    };
    const timer = setTimeout(() => stop(`config.sh did not end within ${timeoutMs} ms.`), timeoutMs);
    const onAbort = (): void => stop("config.sh was given up because the agent stops.");
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    const settle = (run: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      run();
    };
    child.on("error", (cause) =>
      settle(() => reject(failed(`config.sh could not be started: ${cause.message}`))),
    );
    child.on("close", (code, killedBy) => settle(() => resolve({ code: code ?? killedBy ?? "?", output })));
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** The last lines that say something, without the token. */
function lastWords(output: string, token: string): string {
  const lines = output.split("\n").filter((line) => /[A-Za-z]/.test(line) && !/^[|\s#]/.test(line));
  return redactText(lines.slice(-5).join(" / ").replaceAll(token, "[secret]")).slice(0, 1000);
}

/** The agent only looks whether it is one; the Listener unpacks it (runner-contract §7.3). */
function readJitConfig(jitConfig: string, name: string): ConfiguredRunner {
  try {
    const files = asObject(JSON.parse(Buffer.from(jitConfig, "base64").toString("utf8")));
    const file = files?.[".runner"];
    if (typeof file === "string") {
      const inside = parseRunnerFile(Buffer.from(file, "base64").toString("utf8"));
      if (inside !== undefined) return { name: inside.name ?? name, ...maybe("id", inside.id) };
    }
  } catch {
    // Said below, without the content.
  }
  throw failed("The JIT config is not one: base64 of a JSON object with a .runner file was expected.");
}

const failed = (message: string): MigError => new MigError("runner_configure_failed", message);
