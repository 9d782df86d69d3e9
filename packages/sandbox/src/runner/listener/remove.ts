import { existsSync } from "node:fs";
import { join } from "node:path";
import { callServer } from "../call-server.ts";
import { isConfigured, readSettings } from "../runner-files.ts";
import type { CommandLine } from "./command-line.ts";
import { apiBase, ConfigureError, scopePath, startRegistration } from "./configure.ts";
import { type Host, removeLocalFiles } from "./host.ts";

/** `config.sh remove` (runner-contract §2.8): off the server first, then the local files. */
export async function remove(host: Host, options: CommandLine): Promise<void> {
  const { terminal, installation } = host;
  if (options.flag("local")) {
    await removeLocalFiles(host);
    return;
  }
  terminal.section("Runner removal");
  if (existsSync(join(installation.root, ".service"))) {
    terminal.line("Removing service");
    terminal.error("Failed: Removing service");
    throw new ConfigureError("Uninstall service first");
  }
  const settings = readSettings(installation.root);
  if (!isConfigured(installation.root) || !settings) {
    terminal.line(
      "Cannot connect to server, because config files are missing. Skipping removing runner from the server.",
    );
    await removeLocalFiles(host);
    return;
  }
  try {
    await removeFromServer(host, settings.gitHubUrl, settings.agentId, options.argument("token"));
  } catch (error) {
    terminal.error("Failed: Removing runner from the server");
    throw error;
  }
  terminal.line();
  await terminal.success("Runner removed successfully");
  await removeLocalFiles(host);
}

async function removeFromServer(host: Host, url: string, agentId: number, token: string | undefined) {
  if (token === undefined) {
    throw new ConfigureError(
      "Invalid configuration provided for token. Terminating unattended configuration.",
    );
  }
  // A JIT runner has no URL of its own, so it can not be removed this way (runner-contract §2.8).
  const api = apiBase(url);
  const authorization = `RemoteAuth ${token}`;
  await startRegistration(host, api, authorization, url, "remove");
  const target = `${api}${scopePath(url)}/actions/runners/${agentId}`;
  const answer = await callServer({ method: "DELETE", url: target, authorization });
  if (answer.status === 404) {
    host.terminal.line("Does not exist. Skipping Removing runner from the server");
  } else if (answer.status >= 300) {
    throw new ConfigureError(String(answer.body["message"] ?? answer.text));
  }
}
