import type { Store } from "../src/store/open-store.ts";
import type { Engine } from "./engines.ts";
import { openTestListeners, type TestListeners } from "./open-test-listeners.ts";

export interface Replicas extends AsyncDisposable {
  /** Where the VMs are. */
  readonly a: TestListeners;
  /** Where operators are. */
  readonly b: TestListeners;
  readonly stores: readonly Store[];
}

/**
 * Two controllers on one database. Nobody looks by themselves for half a minute: what comes sooner was told. Times of
 * silence are long for the same reason.
 */
export async function openReplicas(engine: Engine, flags: string[] = ["--dev"]): Promise<Replicas> {
  const database = await engine.create();
  const parts = {
    rules: { commandExpiryMs: 60_000, commandAckMs: 30_000, registrationsMax: 3 },
    pace: {
      heartbeatIntervalMs: 30_000,
      silence: { unreachableAfterMs: 90_000, lostAfterMs: 300_000, lostWithJobAfterMs: 300_000 },
      graceMs: 90_000,
      sweepMs: 30_000,
    },
  };
  const stores = [await database.open(), await database.open()];
  const [a, b] = await Promise.all(stores.map((store) => openTestListeners({ flags, store, parts })));
  if (a === undefined || b === undefined) throw new Error("two replicas");
  return {
    a,
    b,
    stores,
    async [Symbol.asyncDispose]() {
      await Promise.all([a[Symbol.asyncDispose](), b[Symbol.asyncDispose]()]);
      await Promise.all(stores.map((store) => store[Symbol.asyncDispose]()));
      await database.drop();
    },
  };
}
