import { type ExecFileOptions, execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

export interface Ran {
  readonly code: number | string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that ends by itself, with whatever code. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: ExecFileOptions & { input?: string } = {},
): Promise<Ran> {
  const { input, ...rest } = options;
  return new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      { encoding: "utf8", timeout: 60_000, maxBuffer: 16 * 1024 * 1024, ...rest },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : (error.code ?? error.signal ?? null);
        resolve({ code, stdout: String(stdout), stderr: String(stderr) });
      },
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(input ?? "");
  });
}

/** Whether this machine has a program, where root would look for it. */
export function hasTool(name: string): boolean {
  const path = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;
  return path.split(":").some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
