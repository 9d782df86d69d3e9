import type { Log } from "@mig/kit";
import { sql } from "kysely";
import { listenForNotes } from "./listen-for-notes.ts";
import type { Tx } from "./open-store.ts";
import { later } from "./server-driver.ts";

/**
 * Tells the sessions of this and of the other replicas that something may wait for their VMs. A note is part of the
 * transaction that queued the command: it comes when the command is there, and not at all when that was rolled back.
 * It is a hint: one that is lost costs the time until the watch looks.
 */
export interface Wakes extends AsyncDisposable {
  /** In the transaction; the other replicas hear of it after the commit. */
  announce(tx: Tx, vmIds: readonly string[]): Promise<void>;
  /** After the commit: the sessions of this replica. */
  tell(vmIds: readonly string[]): void;
  /** "any": notes may have been missed; look in the table. Answers how to stop. */
  hear(listener: WakeListener): () => void;
}

export type WakeListener = (vmIds: readonly string[] | "any") => void;

const topic = "mig_wake";
/** PostgreSQL refuses a payload of 8,000 bytes; ids are ASCII. */
const payloadMax = 7_900;
/** A transaction that touches more VMs than fit in so many notes says only that there is much to look at. */
const notesMax = 8;

export function openWakes(databaseUrl: string | undefined, replica: string, log: Log): Wakes {
  const listeners = new Set<WakeListener>();
  const tell = (vmIds: readonly string[] | "any"): void => {
    if (vmIds.length > 0) for (const listener of listeners) listener(vmIds);
  };
  const hear = (listener: WakeListener): (() => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };
  // PGlite serves one process: nobody else is there to be told.
  if (databaseUrl === undefined)
    return { announce: async () => {}, tell, hear, [Symbol.asyncDispose]: async () => {} };
  const listening = listenForNotes({
    databaseUrl,
    topic,
    log,
    onNote(payload) {
      const note = readNote(payload);
      if (note.replica !== replica) tell(note.vmIds);
    },
    onConnected: () => tell("any"),
  });
  return {
    async announce(tx, vmIds) {
      const notes = notesOf(replica, vmIds);
      if (notes.length > 0)
        await later(
          tx,
          sql`select pg_notify(${topic}, note) from jsonb_array_elements_text(${JSON.stringify(notes)}::jsonb) as note`,
        );
    },
    tell,
    hear,
    [Symbol.asyncDispose]: () => listening.close(),
  };
}

/** `replica vm vm …`, as few as will do. */
export function notesOf(replica: string, vmIds: readonly string[]): string[] {
  const notes: string[] = [];
  let note = "";
  for (const vmId of new Set(vmIds)) {
    if (note === "" || note.length + 1 + vmId.length > payloadMax) {
      if (note !== "") notes.push(note);
      note = replica;
    }
    note += ` ${vmId}`;
  }
  if (note !== "") notes.push(note);
  return notes.length > notesMax ? [`${replica} *`] : notes;
}

export function readNote(payload: string): { replica: string; vmIds: readonly string[] | "any" } {
  const [replica = "", ...vmIds] = payload.split(" ");
  return { replica, vmIds: vmIds[0] === "*" ? "any" : vmIds };
}
