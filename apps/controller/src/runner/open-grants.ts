import type { Log } from "@mig/kit";
import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { createGithubApp, type GithubApp } from "../github/app.ts";
import type { AppKey } from "../github/app-jwt.ts";
import type { GrantAsk, GrantSource, Pool } from "../github/grant-source.ts";
import { createInstallations } from "../github/installations.ts";
import { createPace, type Pace } from "../github/pace.ts";
import { createRegistrar, type Registrar } from "../github/registrar.ts";
import { createGithubWire } from "../github/wire.ts";
import type { Store } from "../store/open-store.ts";
import { createGrantLine, type GrantWish, type Sealer } from "./grant-line.ts";
import { startGrantMaker } from "./make-grants.ts";
import { tidyGrants } from "./tidy-grants.ts";

/** A GitHub App, as the operator set it up. */
export interface AppSpec {
  /** The operator's own name for it. */
  id: string;
  apiUrl: string;
  /** App id or client id. */
  appId: string;
  installationId?: number;
  /** The newest first. */
  keys(): Promise<readonly AppKey[]>;
  /** For one request to GitHub with all that belongs to it; default 15 s. */
  timeoutMs?: number;
  perMinuteStart?: number;
  perMinuteMax?: number;
}

export interface GrantsSettings {
  store: Store;
  apps: readonly AppSpec[];
  /** Which App serves a pool. */
  appOf(pool: Pool): string | undefined;
  poolOf(poolId: string): Pool | undefined;
  sealer: Sealer;
  /** A VM's command may go on. */
  wakeVm(vmId: string): void;
  onAlarm(alarm: { code: string; message: string }): void;
  log: Log;
  signal: AbortSignal;
}

export interface OpenGrants extends AsyncDisposable {
  source: GrantSource;
  apps: ReadonlyMap<string, OpenApp>;
}

export interface OpenApp {
  app: GithubApp;
  pace: Pace;
  registrar: Registrar;
  /** There is a new wish. */
  wake(): void;
  closed: Promise<void>;
}

/** Puts the GitHub side together: for each App its wire, pace, keys and maker; one line for all of them. */
export function openGrants(settings: GrantsSettings): OpenGrants {
  const { store, sealer, log, signal } = settings;
  const apps = new Map<string, OpenApp>();
  const line = createGrantLine({
    store,
    sealer,
    paceOf: async (app) => (await apps.get(app)?.pace.eta()) ?? (() => 60_000),
    onWish: (app) => apps.get(app)?.wake(),
  });
  for (const spec of settings.apps) apps.set(spec.id, openApp(spec));

  function openApp(spec: AppSpec): OpenApp {
    const part = log.child({ app: spec.id });
    const pace = createPace({
      store,
      key: spec.id,
      ...(spec.perMinuteStart === undefined ? {} : { perMinuteStart: spec.perMinuteStart }),
      ...(spec.perMinuteMax === undefined ? {} : { perMinuteMax: spec.perMinuteMax }),
      pause: (ms) => pause(ms, signal),
      onLimit: (retryAfterMs) =>
        part.warn({ retry_after_ms: retryAfterMs }, "GitHub wants to be left alone for a while"),
    });
    const app = createGithubApp({
      id: spec.id,
      appId: spec.appId,
      wire: createGithubWire({
        apiUrl: spec.apiUrl,
        signal,
        ...(spec.timeoutMs === undefined ? {} : { timeoutMs: spec.timeoutMs }),
        onAnswer: (answer) => pace.hear(answer),
      }),
      keys: spec.keys,
      installations: createInstallations(store, spec.id, spec.installationId),
      pace,
      onAlarm: settings.onAlarm,
      log: part,
    });
    const registrar = createRegistrar(app);
    const maker = startGrantMaker({
      app: spec.id,
      store,
      pace,
      registrar,
      sealer,
      onSettled({ vmId }) {
        line.wake(vmId);
        settings.wakeVm(vmId);
      },
      log: part,
      signal,
    });
    const tidying = tidyGrants({ app: spec.id, store, registrar, log: part, signal });
    return {
      app,
      pace,
      registrar,
      closed: Promise.all([maker.closed, tidying]).then(() => {}),
      wake: maker.wake,
    };
  }

  const appFor = (pool: Pool): OpenApp & { id: string } => {
    const id = settings.appOf(pool);
    const open = id === undefined ? undefined : apps.get(id);
    if (id === undefined || open === undefined)
      throw new MigError(
        "github_not_installed",
        `no GitHub App serves the pool ${pool.id} (${pool.runnerUrl}); add one for that address`,
      );
    return { id, ...open };
  };

  return {
    apps,
    source: {
      async take(ask, holdMs) {
        const { vmId, incarnation, requestId, orgId, poolId, pool } = ask;
        const wish = wishOf(ask);
        const { id: app } = appFor(pool);
        return line.take(
          {
            vmId,
            incarnation,
            requestId,
            poolId,
            orgId,
            app,
            wish,
            mayRenew: ask.mayRenew === true,
            mayReuse: pool.reuse === true,
          },
          holdMs,
        );
      },
      async remove({ poolId, runnerName }) {
        const pool = settings.poolOf(poolId);
        return pool === undefined
          ? "unknown"
          : appFor(pool).registrar.remove({ runnerUrl: pool.runnerUrl, runnerName });
      },
    },
    async [Symbol.asyncDispose]() {
      await Promise.allSettled([...apps.values()].map(({ closed }) => closed));
    },
  };
}

/** The pool decides; a VM may ask for less than its labels, and for nothing else (R3.2). */
function wishOf({ vmId, incarnation, orgId, poolId, pool, said = {} }: GrantAsk): GrantWish {
  const refuse = (what: string): never => {
    throw new MigError("forbidden", `${vmId} may not register ${what}`);
  };
  const shown = (text: string): string => JSON.stringify(text.slice(0, 64));
  if (incarnation === "")
    throw new MigError(
      "conflict",
      `${vmId} has not said vm_started, so nobody knows what it is; let it say that first`,
    );
  const { labels = pool.labels, runnerGroup = pool.runnerGroup } = said;
  if ((said.poolId ?? poolId) !== poolId)
    refuse(`in the pool ${shown(said.poolId ?? "")}: it belongs to ${poolId}`);
  if ((said.orgId ?? orgId) !== orgId)
    refuse(`for the organization ${shown(said.orgId ?? "")}: it belongs to ${orgId}`);
  const allowed = new Set(pool.labels.map((label) => label.toLowerCase()));
  const foreign = labels.find((label) => !allowed.has(label.toLowerCase()));
  if (foreign !== undefined)
    refuse(`with the label ${shown(foreign)}: its pool has ${pool.labels.join(", ")}`);
  if (runnerGroup.toLowerCase() !== pool.runnerGroup.toLowerCase())
    refuse(`in the runner group ${shown(runnerGroup)}: its pool has ${pool.runnerGroup}`);
  return {
    runnerUrl: pool.runnerUrl,
    runnerGroup: pool.runnerGroup,
    labels,
    registration: pool.registration,
  };
}
