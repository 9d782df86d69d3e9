import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { isAbsolute, join } from "node:path";

/** A program on a PATH; undefined when there is none. Relative entries are skipped: the agent may be root. */
export async function findTool(name: string, path: string | undefined): Promise<string | undefined> {
  for (const folder of (path ?? defaultPath).split(":")) {
    if (!isAbsolute(folder)) continue;
    const candidate = join(folder, name);
    const isThere = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return candidate;
  }
  return undefined;
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
