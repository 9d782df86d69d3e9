import { hideValue } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { watchFile } from "./watched-file.ts";

/** Gives the content of the token file, read again when the file changes; undefined when no path is given. */
export function createBearerToken(path: string | undefined): () => Promise<string | undefined> {
  if (path === undefined) return () => Promise.resolve(undefined);
  const file = watchFile(path);
  let token: string | undefined;
  let forget = (): void => {};
  return async () => {
    try {
      const text = (await file.read()).trim();
      // What no header can carry would end the process deep inside of node, and an empty one means nothing.
      if (!/^[!-~]+$/.test(text)) throw new Error("it does not hold one token");
      if (text !== token) {
        token = text;
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
