import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Applies `<root>/.env` to the environment: split at the first `=`, no quotes, no comments, no trimming; an
 * empty value unsets, and the file wins over the process (runner-contract §1.7).
 */
export function applyEnvFile(root: string, environment: NodeJS.ProcessEnv): void {
  const path = join(root, ".env");
  if (!existsSync(path)) return;
  for (const line of readFileSync(path, "utf8").split(/\r?\n/)) {
    const at = line.indexOf("=");
    if (at <= 0) continue;
    const name = line.slice(0, at);
    const value = line.slice(at + 1);
    if (value === "") delete environment[name];
    else environment[name] = value;
  }
}
