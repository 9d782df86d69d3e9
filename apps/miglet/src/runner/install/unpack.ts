import { spawn } from "node:child_process";
import { MigError } from "@mig/lifecycle";
import type { RunnerEnvironment } from "../environment.ts";

/**
 * Unpacks the archive with the system's tar, as the runner's user: whatever an archive contains, it can then write no
 * more than that user. Entries that lead out of the directory are refused before anything is written.
 */
export async function unpack(
  archive: string,
  dir: string,
  user: RunnerEnvironment["user"],
  signal: AbortSignal,
): Promise<void> {
  const listing = await tar(["-tvzf", archive], undefined, signal);
  const bad = listing.split("\n").find((line) => line !== "" && !isHarmless(line));
  if (bad !== undefined)
    throw new MigError(
      "runner_not_installed",
      `The archive has an entry that leads out of it (${bad.slice(-80)}): it is no runner.`,
    );
  // The archive is the agent's own file: it is given as standard input, so that its user need not be able to open it.
  await tar(["-xzf", "-", "-C", dir, "--no-same-owner"], user, signal, archive);
}

/** A line of `tar -tv`: mode, owner, size, date, time, name, and for links ` -> target` or ` link to target`. */
export function isHarmless(line: string): boolean {
  const match = /^([a-zA-Z-])\S{9,10}\s+\S+\s+[\d,]+\s+\S+\s+\S+\s(.*)$/.exec(line);
  if (match === null) return false;
  const [, type = "", rest = ""] = match;
  // Devices, pipes and sockets have no business in an archive of programs.
  if (!/^[-dlh]$/.test(type)) return false;
  const separator = type === "l" ? " -> " : type === "h" ? " link to " : undefined;
  const at = separator === undefined ? -1 : rest.lastIndexOf(separator);
  if (separator !== undefined && at === -1) return false;
  const name = separator === undefined ? rest : rest.slice(0, at);
  if (leadsOut(name)) return false;
  if (separator === undefined) return true;
  const target = rest.slice(at + separator.length);
  if (type === "h") return !leadsOut(target);
  const folder = name.replace(/^\.\//, "").split("/").slice(0, -1).join("/");
  return !target.startsWith("/") && !leadsOut(folder === "" ? target : `${folder}/${target}`);
}

function leadsOut(path: string): boolean {
  if (path.startsWith("/")) return true;
  let depth = 0;
  for (const part of path.split("/")) {
    if (part === "..") depth -= 1;
    else if (part !== "" && part !== ".") depth += 1;
    if (depth < 0) return true;
  }
  return false;
}

/** 600 MB of listing would be no runner either. */
const listingCharactersMax = 32 * 1024 * 1024;

async function tar(
  args: string[],
  user: RunnerEnvironment["user"],
  signal: AbortSignal,
  input?: string,
): Promise<string> {
  const { createReadStream } = await import("node:fs");
  return new Promise((resolve, reject) => {
    const child = spawn("tar", args, {
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      env: { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C.UTF-8" },
      signal,
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
    });
    let output = "";
    let errors = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (output.length < listingCharactersMax) output += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      errors = (errors + text).slice(-2_000);
    });
    child.once("error", (cause) =>
      reject(
        new MigError("runner_install_failed", `tar could not unpack the runner: ${cause.message}`, { cause }),
      ),
    );
    child.once("close", (code) => {
      if (code === 0 && output.length < listingCharactersMax) resolve(output);
      else
        reject(new MigError("runner_install_failed", `tar ended with ${code}: ${errors.trim().slice(-500)}`));
    });
    if (input === undefined || child.stdin === null) return;
    child.stdin.on("error", () => {});
    createReadStream(input)
      .on("error", () => child.stdin?.destroy())
      .pipe(child.stdin);
  });
}
