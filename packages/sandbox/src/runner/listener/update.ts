import { spawn } from "node:child_process";
import { cpSync, lstatSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { writeStandIn } from "../installation.ts";
import type { Host } from "./host.ts";

const finishSeconds = 2;

/**
 * Self-update (runner-contract §1.3, §4.4): lines, the new `bin.<version>` behind a link, and a script that outlives
 * the Listener and leaves `update.finished` in the current directory.
 */
export async function updateSelf(
  host: Host,
  version: string,
  finishes: boolean,
  jobFinished: Promise<unknown>,
): Promise<void> {
  const { terminal, installation } = host;
  const { root, timeFactor } = installation;
  terminal.line("Runner update in progress, do not shutdown runner.");
  terminal.line(`Downloading ${version} runner`);
  await installation.wait(5);
  terminal.line("Waiting for current job finish running.");
  await jobFinished;
  terminal.line("Generate and execute update script.");
  const bin = join(root, "bin");
  const next = join(root, `bin.${version}`);
  cpSync(bin, next, { recursive: true, dereference: true });
  writeStandIn(next, { version, timeFactor });
  if (lstatSync(bin).isSymbolicLink()) rmSync(bin);
  else renameSync(bin, join(root, `bin.${installation.version}`));
  symlinkSync(next, bin);
  if (finishes) {
    const script = `sleep ${finishSeconds * timeFactor}; touch update.finished`;
    spawn("bash", ["-c", script], { cwd: process.cwd(), detached: true, stdio: "ignore" }).unref();
  }
  terminal.line("Runner will exit shortly for update, should be back online within 10 seconds.");
  terminal.line("Runner update process finished.");
}
