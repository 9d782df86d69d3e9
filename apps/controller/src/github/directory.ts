import { type Log, pause } from "@mig/kit";
import type { AppConfig } from "../config/apps.ts";
import type { PoolConfig } from "../config/pools.ts";
import { appServing, type Served } from "../config/who-serves.ts";
import type { Store } from "../store/open-store.ts";
import { readRows, readVersion } from "./directory-rows.ts";
import { type DirectoryBase, type DirectoryShot, findMisfits, takeShot } from "./directory-shot.ts";

/**
 * Which GitHub Apps, organizations and pools there are: those of the file, which only a restart changes, and those of
 * the database, which operators change while everything runs. Each replica looks at one number each second and reads
 * the tables when it has changed, so a change holds everywhere about a second later, and here at once.
 */
export interface Directory extends AsyncDisposable {
  shot(): DirectoryShot;
  app(id: string): AppConfig | undefined;
  poolOf(poolId: string): PoolConfig | undefined;
  appOf(pool: Served): { app: string } | { problem: string };
  /** Reads the tables when they have changed. Rejects when the database does not answer. */
  refresh(): Promise<void>;
  /** Called after each change, one after the other. Must not throw. */
  onChange(listener: () => void): void;
}

export interface DirectorySettings {
  store: Store;
  base: DirectoryBase;
  everyMs?: number;
  log: Log;
  signal: AbortSignal;
}

/** Rejects when the database does not answer: without the directory nobody knows whose VMs these are. */
export async function openDirectory({
  store,
  base,
  everyMs = 1_000,
  log,
  signal,
}: DirectorySettings): Promise<Directory> {
  let version = -1;
  let shot = takeShot(base, { "github-apps": [], orgs: [], pools: [] });
  let pools = new Map<string, PoolConfig>();
  let reading: Promise<void> | undefined;
  const listeners: (() => void)[] = [];

  async function read(): Promise<void> {
    const found = await store.transact(async (tx) => {
      const at = await readVersion(tx);
      return at === version ? undefined : { at, rows: await readRows(tx) };
    });
    if (found === undefined) return;
    shot = takeShot(base, found.rows);
    pools = new Map(shot.pools.map(({ config }) => [config.id, config]));
    const isFirst = version < 0;
    version = found.at;
    for (const { message } of shot.problems)
      log.error({ problem: message }, "an entry of the directory is left out");
    for (const [who, why] of isFirst ? findMisfits(shot) : [])
      log.warn({ who, problem: why }, "an entry of the directory has no GitHub App");
    if (!isFirst) log.info({ version }, "GitHub Apps, organizations or pools have changed");
    for (const listener of listeners) listener();
  }

  /** Whoever comes while it is being read waits for the reading after it: that one has seen what they know of. */
  async function refresh(): Promise<void> {
    await reading?.catch(() => {});
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  await refresh();
  const watching = watch();

  async function watch(): Promise<void> {
    let isAway = false;
    while (!signal.aborted) {
      await pause(everyMs, signal);
      if (signal.aborted) return;
      try {
        await refresh();
        isAway = false;
      } catch (error) {
        if (!isAway && !signal.aborted)
          log.warn({ error }, "the directory cannot be read; it stays as it was");
        isAway = true;
      }
    }
  }

  return {
    shot: () => shot,
    app: (id) => shot.apps.find(({ config }) => config.id === id)?.config,
    poolOf: (poolId) => pools.get(poolId) ?? base.defaultPool,
    appOf: (pool) =>
      appServing(
        pool,
        shot.apps.map(({ config }) => config),
        shot.orgs.map(({ config }) => config),
      ),
    refresh,
    onChange: (listener) => void listeners.push(listener),
    async [Symbol.asyncDispose]() {
      await watching;
    },
  };
}
