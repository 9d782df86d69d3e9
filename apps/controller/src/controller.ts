import type { Log } from "@mig/kit";
import { assertLimits, maybe, PRODUCT_VERSION } from "@mig/protocol";
import type { Config } from "./config/config.ts";
import { openGithub } from "./controller/open-github.ts";
import { type IdentityTimes, openIdentity } from "./controller/open-identity.ts";
import { createDiagnosticsDesk } from "./diagnostics/diagnostics-desk.ts";
import { tidyDiagnostics } from "./diagnostics/tidy-diagnostics.ts";
import { Feed } from "./feed/feed.ts";
import { keepForgetting } from "./feed/forget.ts";
import type { Access } from "./listen/access.ts";
import type { HttpDesk } from "./listen/http/http-app.ts";
import { type Listeners, startListeners } from "./listen/listeners.ts";
import { createRunnerInventory } from "./runner/inventory-list.ts";
import { openDesk } from "./session/open-desk.ts";
import { Registry } from "./session/registry.ts";
import { openStore } from "./store/open-store.ts";

/**
 * Opens the parts in order and closes them in reverse: store, GitHub, desk, listeners. It serves until `signal`
 * aborts; then it takes no new connection, sends the streams away, spread over time, finishes what is under way and
 * closes the store. The answer is the process's exit code.
 */
export async function runController(
  config: Config,
  log: Log,
  signal: AbortSignal,
  tell: (text: string) => void = (text) => void process.stderr.write(text),
  times?: IdentityTimes,
): Promise<number> {
  assertLimits();
  const end = new AbortController();
  log.info(
    { data_dir: config.dataDir, server: config.databaseUrl !== undefined },
    "the database is being opened",
  );
  await using store = await openStore({
    dataDir: config.dataDir,
    log,
    ...(config.databaseUrl === undefined ? {} : { databaseUrl: config.databaseUrl.reveal() }),
    prepare: config.databasePrepare,
  });
  const registry = new Registry();
  const rules = {
    commandExpiryMs: config.pace.commandExpiryMs,
    commandAckMs: config.pace.commandAckMs,
    registrationsMax: 3,
    fleetKeptMs: config.pace.fleetKeptMs,
  };
  const github = await openGithub({ config, store, registry, rules, log, signal: end.signal });
  const { sealer } = github;
  const identity =
    sealer === undefined
      ? undefined
      : await openIdentity({
          store,
          sealer,
          registry,
          poolOf: github.directory.poolOf,
          pools: () => github.directory.shot().pools.map((entry) => entry.config),
          joinConfig: config.join,
          oidcConfig: config.oidc,
          log,
          signal: end.signal,
          ...maybe("times", times),
        });
  if (identity !== undefined && config.mode === "normal" && config.tokens?.operator === undefined)
    await showFirstKey(identity.access, tell);
  const opened = openDesk({
    store,
    registry,
    grants: github.source,
    rules,
    pace: {
      heartbeatIntervalMs: config.pace.heartbeatIntervalMs,
      silence: config.pace,
      graceMs: config.startupGraceMs,
      sweepMs: Math.min(1_000, config.pace.heartbeatIntervalMs),
    },
    log,
    signal: end.signal,
    poolOf: github.directory.poolOf,
  });
  const feed = new Feed({ store, log, signal: end.signal });
  const keep = { ms: config.feed.keepMs, rows: config.feed.keepRows };
  const forgetting = keepForgetting(store, keep, log, end.signal);
  const tidying = tidyDiagnostics({ store, log, signal: end.signal });
  let listeners: Listeners | undefined;
  try {
    const inventory = github.desk === undefined ? undefined : createRunnerInventory(store);
    const desk: HttpDesk = {
      ...opened.desk,
      ...maybe("directory", github.desk),
      ...maybe("inventory", inventory),
      ...maybe("access", identity?.access),
      diagnostics: createDiagnosticsDesk(store),
      ...(identity === undefined
        ? {}
        : { fleet: { store, registry, rules, log, poolOf: github.directory.poolOf } }),
      ...(identity === undefined ? {} : { feed: { feed, limits: config.feed } }),
    };
    let stopping = false;
    const health = { isReady: () => !stopping, isStoreReachable: () => store.isReachable() };
    listeners = await startListeners({ config, desk, log, health, signal });
    const { httpAddress, grpcAddress } = listeners;
    const where = { http: httpAddress, grpc: grpcAddress, store: store.kind, mode: config.mode };
    log.info({ version: PRODUCT_VERSION, ...where }, "the controller is ready");
    await aborted(signal);
    stopping = true;
    log.info({ sessions: registry.size }, "the controller stops");
    // The agents come back spread over the grace, to another replica or to the next start of this one.
    registry.endAll("shutting_down", config.shutdownGraceMs);
  } finally {
    await listeners?.close(config.shutdownGraceMs);
    end.abort();
    await Promise.all([opened[Symbol.asyncDispose](), forgetting, feed.close(), tidying]);
    await identity?.close();
    await github.close();
  }
  return 0;
}

/** A fleet without any key would be nobody's: the first start makes one and shows it, this once. */
async function showFirstKey({ apiKeys }: Access, tell: (text: string) => void): Promise<void> {
  const text = await apiKeys.createFirst({ orgId: "-", actor: "controller", action: "key.create" });
  if (text === undefined) return;
  tell(`The first API key of this controller, an administrator's. It is shown this once and kept nowhere:

  ${text}

Make keys for people and programs with it (migctl keys create), then revoke it.
`);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
