import { execFile } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const bin = fileURLToPath(new URL("../bin/migctl.js", import.meta.url));

export interface Said {
  code: number;
  out: string;
  err: string;
}

/** A person with a home of their own. */
export function openHome(): {
  home: string;
  run(args: string[], more?: { stdin?: string; env?: Record<string, string>; file?: string }): Promise<Said>;
} {
  const home = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "migctl-"));
  return {
    home,
    run: (args, { stdin, env = {}, file } = {}) =>
      new Promise((resolve) => {
        const command = file === undefined ? [bin, ...args] : args;
        const child = execFile(
          file ?? process.execPath,
          command,
          { env: { PATH: process.env["PATH"], HOME: home, ...env }, timeout: 30_000 },
          (error, out, err) =>
            resolve({
              code: error === null ? 0 : typeof error.code === "number" ? error.code : -1,
              out,
              err,
            }),
        );
        // Who ends without having read it has not failed.
        child.stdin?.on("error", () => {});
        child.stdin?.end(stdin ?? "");
      }),
  };
}
