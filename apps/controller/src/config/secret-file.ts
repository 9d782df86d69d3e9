import { readFileSync, statSync } from "node:fs";
import { Secret } from "./secret.ts";
import type { SettingName } from "./settings.ts";
import type { Values } from "./values.ts";

/** The secret in the file that a setting names. */
export function readSecretFile(values: Values, name: SettingName): Secret | undefined {
  const path = values.text(name);
  if (path === undefined) return undefined;
  try {
    const about = statSync(path);
    if (!about.isFile() || about.size > 64 * 1024) {
      values.refuse(name, "must be a file of at most 64 KiB");
      return undefined;
    }
    const text = readFileSync(path, "utf8").trim();
    if (text.length < 16)
      values.refuse(name, "holds fewer than 16 characters; make a token with: openssl rand -hex 32");
    else if (name.endsWith("_token_file") && !/^[!-~]{1,4096}$/.test(text))
      values.refuse(
        name,
        "must hold one token of at most 4096 visible ASCII characters: no header carries another",
      );
    else return new Secret(text);
  } catch (error) {
    values.refuse(name, `cannot be read: ${(error as NodeJS.ErrnoException).code ?? "unknown error"}`);
  }
  return undefined;
}
