import { randomBytes } from "node:crypto";
import { createLog, pause } from "@mig/kit";
import { createAppKey, type Github } from "@mig/sandbox";
import { sql } from "kysely";
import { createGithubApp } from "../src/github/app.ts";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { Grant } from "../src/github/grant-source.ts";
import { createInstallations } from "../src/github/installations.ts";
import { createPace } from "../src/github/pace.ts";
import { createRegistrar } from "../src/github/registrar.ts";
import { createGithubWire } from "../src/github/wire.ts";
import { createGrantLine } from "../src/runner/grant-line.ts";
import { startGrantMaker } from "../src/runner/make-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";

/** The way of a grant, put together as openGrants does, with a short time limit; many of them share one database. */
export interface FaultDesk extends AsyncDisposable {
  take(holdMs: number): Promise<Grant>;
}

export const faultKey = createAppKey();
const sealer = createSealer(randomBytes(32));

export function openFaultDesk(settings: {
  store: Store;
  github: Github;
  app: string;
  registration: "jit" | "token";
  timeoutMs?: number;
  write(line: string): void;
}): FaultDesk {
  const { store, github, app, registration, timeoutMs = 1_000, write } = settings;
  const end = new AbortController();
  const { signal } = end;
  const log = createLog({ level: "debug", write });
  const pace = createPace({
    store,
    key: app,
    perMinuteStart: 60_000,
    perMinuteMax: 60_000,
    pause: (ms) => pause(ms, signal),
  });
  const registrar = createRegistrar(
    createGithubApp({
      id: app,
      appId: "1234",
      wire: createGithubWire({
        apiUrl: github.url,
        signal,
        timeoutMs,
        onAnswer: (answer) => pace.hear(answer),
      }),
      keys: async () => [readAppKey(faultKey.privateKeyPem)],
      installations: createInstallations(store, app),
      pace,
      onAlarm: (alarm) => write(JSON.stringify(alarm)),
      log,
    }),
  );
  const line = createGrantLine({
    store,
    sealer,
    etaMs: (_app, ahead) => pace.etaMs(ahead),
    onWish: () => maker.wake(),
  });
  const onSettled = () => line.wake();
  const maker = startGrantMaker({ app, store, pace, registrar, sealer, onSettled, log, signal });
  const wish = {
    runnerUrl: `${github.webUrl}/acme`,
    runnerGroup: "default",
    labels: ["linux"],
    registration,
  };
  return {
    take: (holdMs) =>
      line.take(
        { vmId: app, incarnation: "b", requestId: "r", poolId: "p", orgId: "acme", app, wish },
        holdMs,
      ),
    async [Symbol.asyncDispose]() {
      end.abort();
      await maker.closed;
    },
  };
}

/** All that rests in the database, as text. */
export async function dumpOf(store: Store): Promise<string> {
  const tables = await store.transact((tx) =>
    sql<{ name: string }>`select table_name as name from information_schema.tables
      where table_schema = 'public' and table_type = 'BASE TABLE'`.execute(tx),
  );
  const texts: string[] = [];
  for (const { name } of tables.rows) {
    const { rows } = await store.transact((tx) => sql<object>`select * from ${sql.table(name)}`.execute(tx));
    texts.push(JSON.stringify(rows));
  }
  return texts.join("\n");
}
