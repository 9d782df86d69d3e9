import { readFile, stat } from "node:fs/promises";
import { hideValue } from "@mig/kit";
import { MigError } from "@mig/lifecycle";

/** Gives the content of the token file, read again when the file changes; undefined when no path is given. */
export function createBearerToken(path: string | undefined): () => Promise<string | undefined> {
  let seen = "";
  let token: string | undefined;
  let forget = (): void => {};
  return async () => {
    if (path === undefined) return undefined;
    try {
      const { mtimeMs, size, ino } = await stat(path);
      const version = `${mtimeMs} ${size} ${ino}`;
      if (token === undefined || version !== seen) {
        const text = (await readFile(path, "utf8")).trim();
        // What no header can carry would end the process deep inside of node, and an empty one means nothing.
        if (!/^[!-~]+$/.test(text)) throw new Error("it does not hold one token");
        token = text;
        seen = version;
        forget();
        forget = hideValue(token);
      }
      return token;
    } catch (cause) {
      // Whoever rotates the file may have removed it for a moment: the last token is better than none.
      if (token !== undefined) return token;
      throw new MigError(
        "settings_invalid",
        `The token file ${path} cannot be used: check controller.auth.token_path.`,
        { cause },
      );
    }
  };
}
