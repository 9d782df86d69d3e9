import { type FileHandle, open, truncate } from "node:fs/promises";

export interface TailSettings {
  path: string;
  /** Where reading begins: the start of a line. */
  offset: number;
  /** A longer line is cut; what follows its cut is skipped. */
  lineBytesMax?: number;
  /** The most that one call reads; the rest is for the next one. */
  readBytesMax?: number;
  onLine(line: string): void;
}

export interface FileTail {
  /** Reads what has been added since the last call; true when there was something. Calls do not overlap. */
  read(): Promise<boolean>;
  /** The start of the first line that was not given out. */
  offset(): number;
  /** Empties the file when all of it was read and it is larger than this. Its writers must append. */
  shrink(bytesMax: number): Promise<void>;
  /** For good: who still asks reads nothing. */
  close(): Promise<void>;
}

const chunkBytes = 64 * 1024;

/**
 * Follows a growing file. The writer is never held up, because it is a file and not a pipe (runner-contract trap 11;
 * go-agent-wire A20, A31): a line of any length costs at most `lineBytesMax` here.
 */
export function tailFile(settings: TailSettings): FileTail {
  const { path, lineBytesMax = 64 * 1024, readBytesMax = 64 * 1024 * 1024, onLine } = settings;
  const chunk = Buffer.allocUnsafe(chunkBytes);
  let file: FileHandle | undefined;
  let at = settings.offset;
  let lineStart = settings.offset;
  let kept: Buffer[] = [];
  let keptBytes = 0;
  let isClosed = false;
  let tail: Promise<unknown> = Promise.resolve();

  const keep = (bytes: Buffer): void => {
    const room = lineBytesMax - keptBytes;
    if (room <= 0) return;
    // A copy: the chunk is used again.
    const part = Buffer.from(bytes.subarray(0, room));
    kept.push(part);
    keptBytes += part.length;
  };
  const endLine = (): void => {
    const line = Buffer.concat(kept).toString("utf8").replace(/\r$/, "");
    kept = [];
    keptBytes = 0;
    onLine(line);
  };
  const take = (bytes: Buffer): void => {
    for (let start = 0; start < bytes.length; ) {
      const end = bytes.indexOf(0x0a, start);
      keep(bytes.subarray(start, end === -1 ? bytes.length : end));
      if (end === -1) return;
      lineStart = at + end + 1;
      endLine();
      start = end + 1;
    }
  };
  const startOver = (): void => {
    at = 0;
    lineStart = 0;
    kept = [];
    keptBytes = 0;
  };

  const readOn = async (): Promise<boolean> => {
    let hasRead = false;
    // A file that is opened again would be closed by nobody.
    if (isClosed) return false;
    try {
      file ??= await open(path, "r");
      if ((await file.stat()).size < at) startOver();
      for (const untilBytes = at + readBytesMax; at < untilBytes; ) {
        const { bytesRead } = await file.read(chunk, 0, chunkBytes, at);
        if (bytesRead === 0) break;
        hasRead = true;
        take(chunk.subarray(0, bytesRead));
        at += bytesRead;
      }
      return hasRead;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return hasRead;
      await file?.close().catch(() => {});
      file = undefined;
      throw error;
    }
  };
  const serially = <T>(run: () => Promise<T>): Promise<T> => {
    const result = tail.then(run);
    tail = result.catch(() => {});
    return result;
  };

  return {
    read: () => serially(readOn),
    offset: () => lineStart,
    shrink: (bytesMax) =>
      serially(async () => {
        if (file === undefined || at <= bytesMax || lineStart !== at) return;
        // Between this look and the cut a line may be added and lost; output is only a hint for what hooks and
        // processes prove, and without the cut a chatty runner fills the disk.
        if ((await file.stat()).size !== at) return;
        await truncate(path, 0);
        startOver();
      }),
    close: () =>
      serially(async () => {
        isClosed = true;
        const last = file;
        file = undefined;
        await last?.close();
      }),
  };
}
