import { pause } from "./clock.ts";

/** What process.stdout is of it. */
export interface LineStream {
  write(text: string, done: (error?: Error | null) => void): boolean;
  on(event: "error", listener: () => void): unknown;
}

/**
 * Writes lines to a stream whose reader may be slow, stuck or gone. It never waits and never throws: what the reader
 * has not taken yet is bounded, beyond that lines are dropped and counted, and the count is written when there is room
 * again. Both runtimes call back for a pipe only when its reader has made room (measured: 64 of 500 lines of 1 KB).
 */
export interface LineWriter {
  write(line: string): void;
  /** True when everything was taken within this time; before the process ends. */
  flush(withinMs: number): Promise<boolean>;
  /** Lines that were dropped and not told yet. */
  dropped(): number;
}

export interface LineWriterSettings {
  stream: LineStream;
  /** The line that tells of so many that are missing. */
  note(dropped: number): string;
  bytesMax?: number;
}

export function createLineWriter(settings: LineWriterSettings): LineWriter {
  const { stream, note, bytesMax = 1024 * 1024 } = settings;
  let waiting = 0;
  let dropped = 0;
  const emptied = new Set<() => void>();
  // A reader that went away must not end the process (EPIPE).
  stream.on("error", () => {});

  const send = (line: string): void => {
    const bytes = line.length;
    waiting += bytes;
    let isDone = false;
    const done = (): void => {
      if (isDone) return;
      isDone = true;
      waiting -= bytes;
      if (waiting > 0) return;
      tell();
      if (waiting === 0) for (const call of emptied) call();
    };
    try {
      stream.write(line, done);
    } catch {
      done(); // A closed descriptor throws on some runtimes; there is nobody left to tell.
    }
  };
  const tell = (): void => {
    if (dropped === 0) return;
    const line = note(dropped);
    dropped = 0;
    send(line);
  };

  return {
    write(line) {
      // A single line may be longer than the bound: it goes when nothing waits.
      if (waiting > 0 && waiting + line.length > bytesMax) {
        dropped += 1;
        return;
      }
      tell();
      send(line);
    },
    async flush(withinMs) {
      if (waiting === 0) return true;
      const given = new AbortController();
      const call = (): void => given.abort();
      emptied.add(call);
      await pause(withinMs, given.signal);
      emptied.delete(call);
      return waiting === 0;
    },
    dropped: () => dropped,
  };
}
