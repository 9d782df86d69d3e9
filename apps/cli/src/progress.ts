import { cutTo, displayWidth, padTo } from "./display-width.ts";
import { printable } from "./table.ts";
import type { Io } from "./verb.ts";

/** How long work goes: one line that is written over in a terminal, a new line for each change elsewhere. */
export interface Progress {
  /** `clock`: what changes by itself, shown only where it is written over. */
  show(line: string, clock?: string): void;
  /** What comes next stands on a line of its own. */
  end(): void;
  /** The same for what went wrong, which is thrown on. */
  fail(error: unknown): never;
}

export function openProgress(io: Io, isQuiet: boolean): Progress {
  const isLive = Number.isFinite(io.width) && process.stdout.isTTY;
  let shown = "";
  let line = "";
  const end = (): void => {
    if (!isQuiet && isLive && shown !== "") io.out("\n");
    shown = "";
  };
  return {
    end,
    fail(error) {
      end();
      throw error;
    },
    show(text, clock = "") {
      if (isQuiet) return;
      // A line that wraps could not be written over.
      const now = isLive ? cutTo(printable(text + clock), Math.max(1, io.width - 1)) : printable(text);
      if (now === shown || (!isLive && text === line)) return;
      io.out(isLive ? `\r${padTo(now, displayWidth(shown))}` : `${now}\n`);
      [shown, line] = [now, text];
    },
  };
}
