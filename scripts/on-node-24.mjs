import { spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/*
 * Runs a built program of this repository on Node 24, whatever Node started it (plain JavaScript that Node 20
 * understands). A newer Node runs it in this process. An older one hands over to the Node that `npm ci` put into
 * node_modules/.bin and stands in for it from then on:
 *
 * - the terminal and pipes are the child's own; its exit code, or the signal that ended it, becomes ours
 * - the child leads its own process group, so that Ctrl-C reaches it once, through us, and not twice: a second
 *   signal means "at once" to these programs
 * - if we are killed so that we can forward nothing (SIGKILL), the channel between us breaks and the child goes too
 */
const wanted = 24;
const root = dirname(dirname(realpathSync(fileURLToPath(import.meta.url))));
const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"];

/** @param {URL} main the built entry file, below an app's dist/ */
export async function runOnNode24(main) {
  const file = fileURLToPath(main);
  if (!existsSync(file))
    return fail(`${basename(process.argv[1] ?? "it")} is not built yet: run "npm run build" in ${root}`);
  if (Number.parseInt(process.versions.node, 10) >= wanted) {
    await import(main.href);
    return;
  }
  const node = join(root, "node_modules", ".bin", "node");
  if (!existsSync(node)) {
    return fail(
      `this is Node ${process.versions.node} and Node ${wanted} is needed: run "npm ci" in ${root}, which brings it`,
    );
  }
  standInFor(
    spawn(node, [fileURLToPath(import.meta.url), file, ...process.argv.slice(2)], {
      stdio: ["inherit", "inherit", "inherit", "ipc"],
      detached: true,
    }),
  );
}

function standInFor(child) {
  for (const signal of forwarded) process.on(signal, () => child.kill(signal));
  child.once("error", (error) => fail(`Node ${wanted} could not be started: ${error.message}`));
  child.once("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    // Some signals do not end us (SIGKILL always does); the shell's convention says the rest.
    setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 100);
  });
}

function fail(sentence) {
  process.stderr.write(`${sentence}\n`);
  process.exitCode = 1;
}

/** The child's side of the hand-over. */
if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.argv.splice(1, 1); // the program sees its own name there, as if it had been started directly
  const file = process.argv[1];
  process.once("disconnect", () => process.kill(process.pid, "SIGKILL"));
  process.channel?.unref();
  if (file !== undefined) await import(pathToFileURL(file).href);
}
