import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { AppConfig } from "../config/apps.ts";
import type { Directory } from "../github/directory.ts";
import type { GrantSource, Pool } from "../github/grant-source.ts";
import type { Sealer } from "../runner/grant-line.ts";
import { startInventory } from "../runner/inventory.ts";
import { type OpenApp, type OpenGrants, openGrants } from "../runner/open-grants.ts";
import type { Store } from "../store/open-store.ts";
import type { AppKeys } from "./app-keys.ts";

export interface GrantsByAppSettings {
  store: Store;
  directory: Directory;
  keys: AppKeys;
  sealer: Sealer;
  /** Answers while there is no App at all, in development mode. */
  fixed: GrantSource | undefined;
  wakeVm(vmId: string): void;
  /** Orders a drain of a VM whose runner GitHub does not know any more. */
  drainVm(vmId: string, reason: string): Promise<boolean>;
  onAlarm(alarm: { code: string; message: string }): void;
  log: Log;
  signal: AbortSignal;
}

export interface GrantsByApp extends AsyncDisposable {
  source: GrantSource;
  open(appId: string): OpenApp | undefined;
}

interface Line {
  /** What it was opened with: an App that is set up otherwise gets another line. */
  shape: string;
  grants: OpenGrants;
  inventory: { closed: Promise<void> } | undefined;
  end: AbortController;
}

/**
 * A line to GitHub for each App, opened and closed as the directory changes. An App whose key alone has changed keeps
 * its line: keys are asked for at every call. Grants wait in the database, so a line that is closed loses none.
 */
export function openGrantsByApp(settings: GrantsByAppSettings): GrantsByApp {
  const { store, directory, keys, sealer, fixed, wakeVm, onAlarm, log, signal } = settings;
  const lines = new Map<string, Line>();
  const closing = new Set<Promise<void>>();

  const follow = (): void => {
    if (signal.aborted) return;
    const apps = new Map(directory.shot().apps.map(({ config }) => [config.id, config]));
    for (const [id, line] of lines) {
      const app = apps.get(id);
      if (app === undefined || shapeOf(app) !== line.shape) close(id, line);
    }
    for (const [id, app] of apps) if (!lines.has(id)) lines.set(id, open(app));
  };

  function open(app: AppConfig): Line {
    const end = new AbortController();
    log.info({ app: app.id, api_url: app.apiUrl }, "a GitHub App is used");
    // Told now and not when the first VM asks. Others do not wait for it.
    keys.keysOf(app).catch((error: unknown) => {
      const { code, message } =
        error instanceof MigError ? error : { code: "secret_unavailable", message: "" };
      if (!signal.aborted)
        onAlarm({ code, message: `the GitHub App ${app.id} has no key that can be used: ${message}` });
    });
    const lineSignal = AbortSignal.any([signal, end.signal]);
    const grants = openGrants({
      store,
      apps: [
        {
          id: app.id,
          apiUrl: app.apiUrl,
          appId: app.issuer,
          keys: () => keys.keysOf(directory.app(app.id) ?? app),
          ...maybe("installationId", app.installationId),
          ...maybe("perMinuteStart", app.pace?.start),
          ...maybe("perMinuteMax", app.pace?.max),
        },
      ],
      appOf: () => app.id,
      poolOf: directory.poolOf,
      sealer,
      wakeVm,
      onAlarm,
      log,
      signal: lineSignal,
    });
    const part = grants.apps.get(app.id);
    const inventory =
      part === undefined
        ? undefined
        : startInventory({
            policyOf: (poolId) => ({ leftover: directory.poolOf(poolId)?.leftover ?? "remove" }),
            app: part.app,
            registrar: part.registrar,
            store,
            pools: () => poolsOf(app.id),
            poolOf: directory.poolOf,
            drain: settings.drainVm,
            log: log.child({ app: app.id }),
            signal: lineSignal,
          });
    return { shape: shapeOf(app), grants, inventory, end };
  }

  function poolsOf(appId: string) {
    return directory
      .shot()
      .pools.map(({ config }) => config)
      .filter((pool) => {
        const served = directory.appOf(pool);
        return "app" in served && served.app === appId;
      });
  }

  function close(id: string, { grants, inventory, end }: Line): void {
    lines.delete(id);
    log.info({ app: id }, "a GitHub App is not used any more as it was set up");
    end.abort();
    const closed: Promise<void> = Promise.all([grants[Symbol.asyncDispose](), inventory?.closed])
      .then(() => {})
      .catch((error: unknown) => log.error({ error, app: id }, "a GitHub App's line did not close in order"))
      .finally(() => closing.delete(closed));
    closing.add(closed);
  }

  /** Who grants for a pool. */
  function sourceFor(pool: Pool): GrantSource {
    if (lines.size === 0 && fixed !== undefined) return fixed;
    const served = directory.appOf(pool);
    const line = "app" in served ? lines.get(served.app) : undefined;
    if (line !== undefined) return line.grants.source;
    const why = "problem" in served ? served.problem : "has an App that is being set up";
    throw new MigError("github_not_installed", `the pool ${pool.id} ${why}`);
  }

  directory.onChange(follow);
  follow();
  return {
    open: (appId) => lines.get(appId)?.grants.apps.get(appId),
    source: {
      take: async (ask, holdMs) => sourceFor(ask.pool).take(ask, holdMs),
      async remove(wish) {
        const pool = directory.poolOf(wish.poolId);
        return pool === undefined ? "unknown" : sourceFor(pool).remove(wish);
      },
    },
    async [Symbol.asyncDispose]() {
      for (const [id, line] of lines) close(id, line);
      await Promise.all(closing);
    },
  };
}

function shapeOf({ apiUrl, issuer, installationId, pace }: AppConfig): string {
  return JSON.stringify([apiUrl, issuer, installationId, pace?.start, pace?.max]);
}
