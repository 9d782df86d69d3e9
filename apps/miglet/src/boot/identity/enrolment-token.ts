import { readFile } from "node:fs/promises";
import { hideValue } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { Settings } from "../settings-table.ts";

/**
 * The enrolment token, or undefined when none is set. A file goes before the setting, and is read each time: whatever
 * puts it there may be later than we are, or bring another one after a refusal.
 */
export function createEnrolmentReader(settings: Partial<Settings>): () => Promise<string | undefined> {
  const path = settings["join.token_path"];
  let known = "";
  let forget = (): void => {};
  return async () => {
    if (path === undefined) return settings["join.token"];
    let text: string;
    try {
      text = (await readFile(path, "utf8")).trim();
    } catch (cause) {
      throw unusable(path, "cannot be read yet", cause);
    }
    if (text !== known) {
      forget();
      forget = hideValue(text);
      known = text;
    }
    if (!/^[!-~]{1,256}$/.test(text)) throw unusable(path, "does not hold one enrolment token");
    return text;
  };
}

/** No refusal: it is tried again, as everything that may come late. */
function unusable(path: string, what: string, cause?: unknown): MigError {
  return new MigError("settings_invalid", `The file ${path} ${what}: check join.token_path.`, { cause });
}
