import { setTimeout as delay } from "node:timers/promises";
import { type DiagLog, timestamp } from "../diag-log.ts";

/** What the Listener says on stdout and stderr; each line is also traced, as in the real one. */
export class Terminal {
  readonly #log: DiagLog;

  constructor(log: DiagLog) {
    this.#log = log;
  }

  line(text = ""): void {
    process.stdout.write(`${text}\n`);
    this.#log.info("Terminal", `WRITE LINE: ${text}`);
  }

  timedLine(text: string): void {
    this.line(`${timestamp()}: ${text}`);
  }

  error(text: string): void {
    process.stderr.write(`${text}\n`);
    this.#log.error("Terminal", `WRITE ERROR: ${text}`);
  }

  timedError(text: string): void {
    this.error(`${timestamp()}: ${text}`);
  }

  /** The check mark and the text are two writes with a gap, so readers must split at newlines (runner-contract §4.6). */
  async success(text: string): Promise<void> {
    process.stdout.write("√ ");
    await delay(1);
    this.line(text);
  }

  section(title: string): void {
    this.line();
    this.line(`# ${title}`);
    this.line();
  }
}
