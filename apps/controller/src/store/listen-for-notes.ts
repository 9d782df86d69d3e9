import { type Log, pause } from "@mig/kit";
import pg from "pg";

/**
 * One connection of its own that hears what other processes notify. PostgreSQL keeps nothing for a listener that is
 * away, so each new connection says `onConnected`: look at the table once. A pooler in transaction mode carries no
 * notes; then only the watch remains.
 */
export interface NoteListener {
  readonly databaseUrl: string;
  readonly topic: string;
  readonly log: Log;
  onNote(payload: string): void;
  onConnected(): void;
}

const firstRetryMs = 250;
const retryMaxMs = 10_000;
/** A peer that vanished without a word is found out by a question. */
const askEveryMs = 15_000;
const answerWithinMs = 5_000;

export function listenForNotes(settings: NoteListener): { close(): Promise<void> } {
  const end = new AbortController();
  const running = keepListening(settings, end.signal);
  return {
    async close() {
      end.abort();
      await running;
    },
  };
}

async function keepListening(settings: NoteListener, signal: AbortSignal): Promise<void> {
  let tries = 0;
  while (!signal.aborted) {
    try {
      await listenOnce(settings, signal, () => {
        tries = 0;
      });
    } catch (error) {
      if (signal.aborted) return;
      settings.log.info(
        { topic: settings.topic, error },
        "the connection that hears other replicas was lost; it is made again, and the watch looks meanwhile",
      );
    }
    // Spread: the replicas lost it together.
    const windowMs = Math.min(retryMaxMs, firstRetryMs * 2 ** tries);
    tries += 1;
    await pause(windowMs * (1 + Math.random()), signal);
  }
}

/** Resolves when `signal` aborts, rejects when the connection is lost. */
async function listenOnce(settings: NoteListener, signal: AbortSignal, connected: () => void): Promise<void> {
  const client = new pg.Client({
    connectionString: settings.databaseUrl,
    connectionTimeoutMillis: answerWithinMs,
    query_timeout: answerWithinMs,
    keepAlive: true,
    application_name: "mig-controller-wakes",
  });
  const lost = new Promise<never>((_, reject) => {
    client.on("error", reject);
    client.on("end", () => reject(new Error("the server ended the connection")));
  });
  lost.catch(() => {}); // also while nobody waits for it
  client.on("notification", ({ payload }) => settings.onNote(payload ?? ""));
  try {
    await client.connect();
    await client.query(`listen ${settings.topic}`);
    connected();
    settings.onConnected();
    while (!signal.aborted) {
      await Promise.race([pause(askEveryMs, signal), lost]);
      if (!signal.aborted) await client.query("select 1");
    }
  } finally {
    await client.end().catch(() => {});
  }
}
