/**
 * What signals do to a Listener that runs (runner-contract §3.5).
 * SIGINT, SIGQUIT: print `Exiting...`, shut down, wait for the Worker without a limit.
 * SIGTERM: the same shutdown, silent and with 30 s at most, then the process ends whatever its Worker does.
 * SIGTERM after SIGINT: ends at once.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Host } from "./host.ts";

const exitTimeoutSeconds = 30;

export interface Signals {
  readonly shutdown: AbortSignal;
  readonly reason: "user" | "system";
  /** The exit code that the signals ask for, when they ended the run. */
  readonly exitCode: number;
  ignoreInt(): void;
  ignoreTerm(): void;
}

export function watchSignals(host: Host, exitNow: (code: number) => void): Signals {
  const shutdown = new AbortController();
  const ignored = { int: false, term: false };
  const state: { reason: "user" | "system"; exitCode: number } = { reason: "user", exitCode: 0 };

  const interrupt = (signal: string) => {
    if (ignored.int) return;
    host.terminal.line("Exiting...");
    if (signal === "SIGQUIT" && existsSync(join(host.installation.root, ".service"))) state.reason = "system";
    shutdown.abort();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGQUIT", interrupt);
  process.on("SIGTERM", () => {
    if (ignored.term) return;
    // Whether the real one ends with 143 or with 0 is not known (runner-contract, appendix B).
    if (shutdown.signal.aborted) return exitNow(143);
    state.exitCode = 143;
    shutdown.abort();
    void host.installation.wait(exitTimeoutSeconds).then(() => exitNow(143));
  });
  return {
    shutdown: shutdown.signal,
    get reason() {
      return state.reason;
    },
    get exitCode() {
      return state.exitCode;
    },
    ignoreInt: () => {
      ignored.int = true;
    },
    ignoreTerm: () => {
      ignored.term = true;
    },
  };
}
