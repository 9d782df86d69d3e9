import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { arch } from "node:os";
import { join, resolve } from "node:path";
import type { JobMessage } from "../../github/job-message.ts";
import type { Installation } from "../installation.ts";
import { readSettings } from "../runner-files.ts";

export interface JobFolders {
  readonly work: string;
  readonly temp: string;
  readonly workspace: string;
}

/** Makes the work folder of a job as runner-contract §1.2 lists it; `_temp` begins empty. */
export function makeJobFolders(installation: Installation, github: ReadonlyMap<string, string>): JobFolders {
  const work = resolve(installation.root, readSettings(installation.root)?.workFolder ?? "_work");
  const repository = github.get("repository") ?? "acme/app";
  const name = repository.split("/")[1] ?? "app";
  const temp = join(work, "_temp");
  const workspace = join(work, name, name);
  rmSync(temp, { recursive: true, force: true });
  const mapping = join(work, "_PipelineMapping", repository);
  const commands = join(temp, "_runner_file_commands");
  const folders = [join(temp, "_github_workflow"), commands, join(work, "_actions"), join(work, "_tool")];
  for (const folder of [...folders, workspace, mapping]) mkdirSync(folder, { recursive: true });
  writeFileSync(join(temp, "_github_workflow", "event.json"), github.get("event") ?? "{}");
  writeFileSync(join(mapping, "PipelineFolder.json"), JSON.stringify({ repositoryName: repository }));
  return { work, temp, workspace };
}

/** The `github` context out of its encoded form. */
export function githubContext(message: JobMessage): ReadonlyMap<string, string> {
  return new Map(message.contextData.github.d.map(({ k, v }) => [k, v]));
}

/** What the Worker adds to its own environment for hooks and steps (runner-contract §6.3). */
export function jobEnvironment(
  message: JobMessage,
  github: ReadonlyMap<string, string>,
  folders: JobFolders,
): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = { GITHUB_ACTIONS: "true", CI: process.env["CI"] ?? "true" };
  for (const [key, value] of github) {
    if (key !== "event") environment[`GITHUB_${key.toUpperCase()}`] = value;
  }
  const machine = { x64: "X64", arm64: "ARM64", arm: "ARM" }[arch() as string] ?? "X64";
  return {
    ...environment,
    GITHUB_EVENT_PATH: join(folders.temp, "_github_workflow", "event.json"),
    GITHUB_WORKSPACE: folders.workspace,
    RUNNER_OS: process.platform === "darwin" ? "macOS" : "Linux",
    RUNNER_ARCH: machine,
    RUNNER_NAME: message.runnerName,
    RUNNER_ENVIRONMENT: "self-hosted",
    RUNNER_TOOL_CACHE: process.env["RUNNER_TOOL_CACHE"] ?? join(folders.work, "_tool"),
    RUNNER_TEMP: folders.temp,
    RUNNER_WORKSPACE: resolve(folders.workspace, ".."),
  };
}
