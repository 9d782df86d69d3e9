import { constants } from "node:fs";
import { type FileHandle, open, opendir } from "node:fs/promises";
import { join } from "node:path";

/** The end of a file, in whole lines. */
export interface Tail {
  readonly text: string;
  /** Bytes before it. */
  readonly dropped: number;
}

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

/**
 * Jobs may write where these files are, and the agent may be root: a link to a key, a pipe that nobody writes to or a
 * device must not get into a bundle or hold it up. Only a plain file with one name is read, and never through a link.
 */
export async function readTail(path: string, bytesMax: number): Promise<Tail> {
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new Error("it is no plain file");
    if (stat.nlink !== 1) throw new Error("it has more than one name, and may be somebody else's");
    const from = Math.max(0, stat.size - bytesMax);
    const bytes = await readFully(file, from, Math.min(bytesMax, stat.size));
    if (from === 0) return { text: bytes.toString("utf8"), dropped: 0 };
    // The first line may be the end of a longer one, and so of a secret that is known only by its beginning.
    const start = bytes.indexOf(0x0a) + 1;
    if (start === 0) return { text: "", dropped: stat.size };
    return { text: bytes.subarray(start).toString("utf8"), dropped: from + start };
  } finally {
    await file.close();
  }
}

async function readFully(file: FileHandle, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, length - at, from + at);
    if (bytesRead === 0) return bytes.subarray(0, at);
    at += bytesRead;
  }
  return bytes;
}

export interface Folder {
  /** In no order, at most `namesMax`. */
  readonly names: readonly string[];
  /** Of a file in it, whatever stands at the folder's own path by now. */
  pathOf(name: string): string;
  close(): Promise<void>;
}

const namesMax = 5_000;

/** A folder that is held, so that nobody can put a link in its place between the look and the reading (Linux). */
export async function openFolder(path: string): Promise<Folder> {
  const held = await open(path, O_RDONLY | O_NOFOLLOW | O_DIRECTORY);
  const place = process.platform === "linux" ? `/proc/self/fd/${held.fd}` : path;
  try {
    const names: string[] = [];
    for await (const entry of await opendir(place)) {
      names.push(entry.name);
      if (names.length >= namesMax) break;
    }
    return { names, pathOf: (name) => join(place, name), close: () => held.close() };
  } catch (error) {
    await held.close();
    throw error;
  }
}
