import { stat } from "node:fs/promises";
import type { Settings } from "./settings-table.ts";

/** Files with secrets that others on the machine can read, jobs among them. That one is missing is said by who reads it. */
export async function warnOfOpenFiles(settings: Partial<Settings>): Promise<string[]> {
  const keys = ["controller.auth.token_path", "controller.tls.key_path", "join.token_path"] as const;
  const warnings = await Promise.all(
    keys.map(async (key) => {
      const path = settings[key];
      const mode = path === undefined ? 0 : await modeOf(path);
      if ((mode & 0o077) === 0) return [];
      const who = (mode & 0o007) === 0 ? "its group" : "everybody on this machine";
      const shown = (mode & 0o777).toString(8).padStart(4, "0");
      return [
        `${key}: ${who} has rights to ${path} (mode ${shown}), and it holds a secret: chmod 0600 ${path}`,
      ];
    }),
  );
  return warnings.flat();
}

async function modeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ mode }) => mode,
    () => 0,
  );
}
