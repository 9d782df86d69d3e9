import { pause } from "@mig/kit";
import type { MigError } from "@mig/lifecycle";
import type { WebSocket } from "ws";
import { toMigError } from "../error.ts";

export interface WatchSettings {
  pingMs: number;
  signal: AbortSignal;
  /** Whether anything came since the last time; true also while we do not read and so cannot hear. */
  wasHeard(): boolean;
  /** Asks the guard again. */
  recheck(): Promise<void>;
  /** The credentials have ended. */
  onOver(error: MigError): void;
}

/** Finds half-open connections, and credentials that end while the socket is open. */
export async function watchSocket(socket: WebSocket, settings: WatchSettings): Promise<void> {
  const { pingMs, signal, wasHeard, recheck, onOver } = settings;
  for (;;) {
    await pause(pingMs, signal);
    if (signal.aborted) return;
    if (!wasHeard()) return socket.terminate();
    if (socket.readyState === socket.OPEN) socket.ping();
    try {
      await recheck();
    } catch (thrown) {
      const error = toMigError(thrown);
      // Any other failure is ours and passes.
      if (error.code === "unauthenticated" || error.code === "forbidden") return onOver(error);
    }
  }
}
