import { join } from "node:path";
import { sql } from "kysely";
import { openStore } from "../../apps/controller/src/store/open-store.ts";
import type { House } from "./house.ts";

export interface StoredEvent {
  vmId: string;
  seq: number;
  type: string;
  eventId: string;
}

/** Stops the controller and reads what its database holds. */
export async function storedEvents(house: House): Promise<StoredEvent[]> {
  house.controller.kill("SIGTERM");
  await house.controller.ended();
  await using store = await openStore({
    dataDir: join(house.dir, "data"),
    ...(house.databaseUrl === undefined ? {} : { databaseUrl: house.databaseUrl }),
  });
  const found = await store.transact((tx) =>
    sql<StoredEvent>`select vm_id as "vmId", seq::float8 as seq, type, event_id as "eventId" from events order by id`.execute(
      tx,
    ),
  );
  return found.rows;
}
