import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { UsageError } from "./verb.ts";

/** What a profile knows of how to get the bearer: the key itself, a file that somebody renews, or a command that prints one. */
export type Credential =
  | { readonly key: string }
  | { readonly tokenFile: string }
  | { readonly tokenCommand: string };

/** The token to send now. */
export type TokenSource = () => Promise<string | undefined>;

/** gcloud takes a second or two; a command that asks somebody may take longer. */
const commandMs = 60_000;
const commandBytesMax = 64 * 1024;
/** A table of many pages asks a command once, and what watches for hours has a fresh token each minute. */
const heldMs = 60_000;

export function tokenSourceOf(credential: Credential | undefined, signal: AbortSignal): TokenSource {
  if (credential === undefined) return async () => undefined;
  if ("key" in credential) return async () => credential.key;
  const get = (): Promise<string> =>
    "tokenFile" in credential
      ? readToken(credential.tokenFile)
      : runTokenCommand(credential.tokenCommand, signal);
  let held: { readonly token: string; readonly untilMs: number } | undefined;
  return async () => {
    if (held === undefined || held.untilMs <= performance.now())
      held = { token: await get(), untilMs: performance.now() + heldMs };
    return held.token;
  };
}

export async function readToken(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`the token file ${path} cannot be read (${error.code ?? "error"})`);
  });
  return oneToken(text, `the token file ${path}`);
}

/** No header carries another. */
export function oneToken(text: string, where: string): string {
  const token = text.trim();
  if (!/^[!-~]{1,8192}$/.test(token)) throw new UsageError(`${where} does not hold one token`);
  return token;
}

/**
 * What the command prints, as the shell runs it. What it complains of is shown as it comes; what it prints is a secret and
 * in no message. It has a process group of its own, so that its children end with it when it takes too long.
 */
export function runTokenCommand(command: string, signal: AbortSignal, limitMs = commandMs): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, detached: true, stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    let problem: string | undefined;
    const stop = (why: string): void => {
      problem ??= why;
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
      child.stdout.destroy();
    };
    const interrupt = (): void => stop("was interrupted");
    const timer = setTimeout(() => stop(`took longer than ${limitMs / 1000} s`), limitMs);
    signal.addEventListener("abort", interrupt, { once: true });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
      if (out.length > commandBytesMax) stop("printed more than a token");
    });
    child.on("error", (error) => stop(`does not start (${error.message})`));
    child.on("close", (code) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", interrupt);
      if (problem === undefined && code !== 0) problem = `ended with ${code ?? "a signal"}`;
      try {
        if (problem !== undefined) throw new UsageError(`the token command ${problem}: ${command}`);
        resolve(oneToken(out, `what the token command prints (${command})`));
      } catch (error) {
        reject(error);
      }
    });
  });
}
