/**
 * `config.sh`: registers this runner and writes its files (runner-contract §2.4–§2.7).
 * Side effects in the order of the real one: key file, registration, `.credentials`, `.runner`, `svc.sh`. A process
 * that dies in between leaves a registration without files; `FAKE_CRASH_AFTER` names the step to die after.
 */
import { chmodSync, writeFileSync } from "node:fs";
import { arch, hostname } from "node:os";
import { join } from "node:path";
import { type Answer, callServer, statusName } from "../call-server.ts";
import { isConfigured, writeKeyFile, writeWithBom } from "../runner-files.ts";
import type { CommandLine } from "./command-line.ts";
import type { Host } from "./host.ts";

const banner = `
--------------------------------------------------------------------------------
|        ____ _ _   _   _       _          _        _   _                      |
|       / ___(_) |_| | | |_   _| |__      / \\   ___| |_(_) ___  _ __  ___      |
|      | |  _| | __| |_| | | | | '_ \\    / _ \\ / __| __| |/ _ \\| '_ \\/ __|     |
|      | |_| | | |_|  _  | |_| | |_) |  / ___ \\ (__| |_| | (_) | | | \\__ \\     |
|       \\____|_|\\__|_| |_|\\__,_|_.__/  /_/   \\_\\___|\\__|_|\\___/|_| |_|___/     |
|                                                                              |
|                       Self-hosted runner registration                        |
|                                                                              |
--------------------------------------------------------------------------------`;

/** A failure whose message goes to stderr as it is. */
export class ConfigureError extends Error {}

export async function configure(host: Host, options: CommandLine): Promise<void> {
  const { terminal, installation } = host;
  const { root } = installation;
  for (const line of banner.split("\n")) terminal.line(line);
  if (isConfigured(root)) {
    throw new ConfigureError(
      "Cannot configure the runner because it is already configured. To reconfigure the runner, run 'config.cmd remove' or './config.sh remove' first.",
    );
  }
  terminal.section("Authentication");
  const url = await requireValue(host, options, "url");
  const token = await requireValue(host, options, "token");
  const api = apiBase(url);
  const authorization = `RemoteAuth ${token}`;
  await startRegistration(host, api, authorization, url, "register");
  terminal.line();
  await terminal.success("Connected to GitHub");

  terminal.section("Runner Registration");
  const labels = chooseLabels(options);
  writeKeyFile(root);
  crashPoint("key");
  const groupId = await chooseGroup(host, api, authorization, url, options.argument("runnergroup"));
  terminal.line();
  const name = options.argument("name") ?? hostname();
  terminal.line();
  const existing = await findRunner(api, authorization, url, name);
  if (existing !== undefined) {
    terminal.line("A runner exists with the same name");
    if (!options.flag("replace")) throw new ConfigureError(`A runner exists with the same name ${name}.`);
  }
  const ephemeral = options.flag("ephemeral");
  const disableUpdate = options.flag("disableupdate");
  const registered = await callServer({
    method: "POST",
    url: `${api}/actions/runners/register`,
    authorization,
    body: {
      url,
      group_id: groupId,
      name,
      version: installation.version,
      updates_disabled: disableUpdate,
      ephemeral,
      labels,
      public_key: "stand-in",
      ...(existing === undefined ? {} : { runner_id: existing, replace: true }),
    },
  });
  requireSuccess(host, registered, "POST", `${api}/actions/runners/register`);
  crashPoint("register");
  await terminal.success(
    existing === undefined ? "Runner successfully added" : "Successfully replaced the runner",
  );

  terminal.section("Runner settings");
  const grant = registered.body["authorization"] as Readonly<Record<string, string>>;
  writeWithBom(root, ".credentials", {
    scheme: "OAuth",
    data: {
      clientId: grant["client_id"],
      authorizationUrl: grant["authorization_url"],
      requireFipsCryptography: "True",
    },
  });
  crashPoint("credentials");
  writeWithBom(root, ".runner", {
    agentId: registered.body["id"],
    agentName: registered.body["name"],
    poolId: groupId,
    poolName: "Default",
    serverUrl: `${new URL(url).origin}/_services/`,
    gitHubUrl: url,
    workFolder: options.argument("work") ?? "_work",
    // Keys with default values are left out, so these two are there only when true.
    ...(ephemeral ? { ephemeral } : {}),
    ...(disableUpdate ? { disableUpdate } : {}),
    useV2Flow: true,
    useRunnerAdminFlow: true,
    serverUrlV2: grant["server_url"],
  });
  crashPoint("runner");
  terminal.line();
  await terminal.success("Settings Saved.");
  terminal.line();
  writeFileSync(
    join(root, "svc.sh"),
    "#!/bin/bash\necho 'The stand-in runner has no service mode.'\nexit 1\n",
  );
  chmodSync(join(root, "svc.sh"), 0o755);
}

/** The real one drops the port of `--url` (runner-contract §2.5); this one keeps it, or no test could have two servers. */
export function apiBase(url: string): string {
  try {
    return `${new URL(url).origin}/api/v3`;
  } catch {
    throw new ConfigureError("Invalid configuration provided for url. Terminating unattended configuration.");
  }
}

/** First call of configure and remove; up to three tries, except after 404. */
export async function startRegistration(
  host: Host,
  api: string,
  authorization: string,
  url: string,
  event: "register" | "remove",
): Promise<void> {
  const target = `${api}/actions/runner-registration`;
  for (let tries = 1; ; tries += 1) {
    let failure: Error;
    try {
      const body = { url, runner_event: event };
      const answer = await callServer({ method: "POST", url: target, authorization, body });
      if (answer.status < 300) return;
      host.terminal.error(
        `Http response code: ${statusName(answer.status)} from 'POST ${target}' (Request Id: ${answer.requestId})`,
      );
      host.terminal.error(answer.text);
      failure = statusError(answer);
      if (answer.status === 404) throw failure;
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
      if (failure instanceof ConfigureError && failure.message.includes(" 404 ")) throw failure;
    }
    if (tries === 3) throw failure;
    await host.installation.wait(3);
  }
}

async function requireValue(host: Host, options: CommandLine, name: string): Promise<string> {
  const value = options.argument(name);
  const valid = value !== undefined && (name !== "url" || URL.canParse(value));
  if (valid) return value;
  if (options.flag("unattended")) {
    throw new ConfigureError(
      `Invalid configuration provided for ${name}. Terminating unattended configuration.`,
    );
  }
  if (name === "token") throw new ConfigureError("Cannot read keys when console input has been redirected.");
  // A plain prompt never ends when stdin is at its end (runner-contract §2.4).
  for (;;) {
    host.terminal.line("Entered value is invalid");
    await host.installation.wait(1);
  }
}

function chooseLabels(options: CommandLine): readonly { readonly name: string; readonly type: string }[] {
  const own = (options.argument("labels") ?? "").split(",").filter((label) => label !== "");
  if (options.flag("no-default-labels") && own.length === 0) {
    throw new ConfigureError(
      "Disabling default labels via --no-default-labels without specifying --labels is not supported",
    );
  }
  const machine = { x64: "X64", arm64: "ARM64", arm: "ARM", ia32: "X86" }[arch() as string] ?? "X64";
  const system = process.platform === "darwin" ? "macOS" : "Linux";
  const defaults = options.flag("no-default-labels") ? [] : ["self-hosted", system, machine];
  // An invalid value of an optional argument is dropped without a word when unattended.
  const valid = own.every((label) => label.length <= 256) ? own : [];
  const custom = valid.filter(
    (label, index) => valid.findIndex((other) => other.toLowerCase() === label.toLowerCase()) === index,
  );
  return [
    ...defaults.map((name) => ({ name, type: "system" })),
    ...custom.map((name) => ({ name, type: "user" })),
  ];
}

async function chooseGroup(
  host: Host,
  api: string,
  authorization: string,
  url: string,
  wanted: string | undefined,
): Promise<number> {
  const target = `${api}${scopePath(url)}/actions/runner-groups`;
  const answer = await callServer({ method: "GET", url: target, authorization });
  requireSuccess(host, answer, "GET", target);
  const groups = answer.body["runner_groups"] as readonly { id: number; name: string; default: boolean }[];
  if (groups.length > 0) host.terminal.line();
  const group = groups.find((candidate) =>
    wanted === undefined ? candidate.default : candidate.name.toLowerCase() === wanted.toLowerCase(),
  );
  if (!group) throw new ConfigureError(`Could not find any self-hosted runner group named "${wanted}".`);
  return group.id;
}

async function findRunner(api: string, authorization: string, url: string, name: string) {
  const target = `${api}${scopePath(url)}/actions/runners?name=${encodeURIComponent(name)}`;
  const answer = await callServer({ method: "GET", url: target, authorization });
  return (answer.body["runners"] as readonly { id: number }[] | undefined)?.[0]?.id;
}

export function scopePath(url: string): string {
  const path = new URL(url).pathname.replace(/^\/+|\/+$/g, "");
  return path.includes("/") ? `/repos/${path}` : `/orgs/${path}`;
}

function requireSuccess(host: Host, answer: Answer, method: string, url: string): void {
  if (answer.status < 300) return;
  host.terminal.error(
    `Http response code: ${statusName(answer.status)} from '${method} ${url}' (Request Id: ${answer.requestId})`,
  );
  host.terminal.error(answer.text);
  throw statusError(answer);
}

function statusError(answer: Answer): ConfigureError {
  const name = statusName(answer.status).replace(/(?<=[a-z])(?=[A-Z])/g, " ");
  return new ConfigureError(`Response status code does not indicate success: ${answer.status} (${name}).`);
}

function crashPoint(step: string): void {
  if (process.env["FAKE_CRASH_AFTER"] === step) process.kill(process.pid, "SIGKILL");
}
