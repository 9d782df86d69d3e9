import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";
import type { Account } from "./account.ts";

/** Where an App is installed: found once, kept for all replicas, found again when GitHub does not know it any more. */
export interface Installations {
  find(account: Account, resolve: () => Promise<number>): Promise<number>;
  forget(account: Account): Promise<void>;
}

/** `given`: the operator named it; then nothing is looked up and nothing forgotten. */
export function createInstallations(store: Store, appId: string, given?: number): Installations {
  const known = new Map<string, number>();
  return {
    async find({ name }, resolve) {
      if (given !== undefined) return given;
      const cached = known.get(name);
      if (cached !== undefined) return cached;
      const kept = await store.transact((tx) =>
        sql<{ installation: number }>`select installation_id::float8 as installation from github_installations
          where app = ${appId} and account = ${name}`.execute(tx),
      );
      const found = kept.rows[0]?.installation ?? (await resolve());
      if (kept.rows.length === 0)
        await store.transact((tx) =>
          sql`insert into github_installations (app, account, installation_id, found_at)
            values (${appId}, ${name}, ${found}, now())
            on conflict (app, account) do update set installation_id = excluded.installation_id, found_at = now()`.execute(
            tx,
          ),
        );
      known.set(name, found);
      return found;
    },
    async forget({ name }) {
      if (given !== undefined) return;
      known.delete(name);
      await store.transact((tx) =>
        sql`delete from github_installations where app = ${appId} and account = ${name}`.execute(tx),
      );
    },
  };
}
