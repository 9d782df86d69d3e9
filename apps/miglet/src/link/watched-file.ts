import { readFile, stat } from "node:fs/promises";

export interface WatchedFile {
  /** The content, read again when the file is another one than the last time; rejects when it cannot be read. */
  read(): Promise<string>;
}

/** By mtime, size and inode: whoever rotates a file writes a new one or renames it into place. */
export function watchFile(path: string): WatchedFile {
  let seen: { version: string; text: string } | undefined;
  return {
    async read() {
      const { mtimeMs, size, ino } = await stat(path);
      const version = `${mtimeMs} ${size} ${ino}`;
      if (seen?.version !== version) seen = { version, text: await readFile(path, "utf8") };
      return seen.text;
    },
  };
}
