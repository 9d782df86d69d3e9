import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Log, silentLog } from "@mig/kit";
import { buildConfig } from "../src/config/config.ts";
import { readInvocation } from "../src/config/env.ts";
import { showProblems } from "../src/config/show.ts";
import { startListeners } from "../src/listen/listeners.ts";
import type { Desk } from "../src/session/desk.ts";
import type { Parts } from "../src/session/parts.ts";
import { openStore, type Store } from "../src/store/open-store.ts";
import { newLabDatabase } from "./lab-database.ts";
import { openTestDesk, type TestDesk } from "./open-test-desk.ts";

export interface TestListeners extends AsyncDisposable {
  url: string;
  port: number;
  grpcPort: number;
  dataDir: string;
  real: TestDesk;
  health: { isReady: boolean; isStoreReachable: boolean };
  /** Ends held requests, as a stopping controller does first. */
  stop: AbortController;
  close(graceMs: number): Promise<void>;
}

export interface TestListenersSettings {
  /** Flags of mig-controller; sample mode unless given. */
  flags?: string[];
  /** Replaces methods of the real desk, to make it fail or wait. */
  desk?: (real: Desk) => Partial<Desk>;
  log?: Log;
  tlsPollMs?: number;
  /** A store that somebody else opened and closes; one of its own without it. */
  store?: Store;
  /** What the real desk is made of, besides what it always is. */
  parts?: Partial<Parts>;
}

/** Real listeners on free ports, in front of a real desk. */
export async function openTestListeners({
  flags = ["--sample"],
  desk,
  log = silentLog,
  tlsPollMs = 20,
  store: given,
  parts,
}: TestListenersSettings = {}): Promise<TestListeners> {
  const root = await mkdtemp(join(tmpdir(), "mig-listen-"));
  const dataDir = join(root, "data");
  const ports = ["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--data-dir", dataDir];
  const outcome = buildConfig(readInvocation([...ports, ...flags], {}));
  if (!outcome.ok) throw new Error(showProblems(outcome.problems));
  const storeDir = join(root, "store");
  const database = given === undefined ? await newLabDatabase(storeDir) : undefined;
  const store = given ?? (await openLabStore(storeDir, database?.databaseUrl));
  const real = openTestDesk(store, parts);
  const health = { isReady: true, isStoreReachable: true };
  const stop = new AbortController();
  const listeners = await startListeners({
    config: outcome.config,
    desk: { ...real.desk, ...desk?.(real.desk) },
    log,
    tlsPollMs,
    health: { isReady: () => health.isReady, isStoreReachable: async () => health.isStoreReachable },
    signal: stop.signal,
  });
  const { port } = listeners.httpAddress;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    grpcPort: listeners.grpcAddress?.port ?? port,
    dataDir,
    real,
    health,
    stop,
    close: (graceMs) => listeners.close(graceMs),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await listeners.close(0);
      await real[Symbol.asyncDispose]();
      if (given === undefined) await store[Symbol.asyncDispose]();
      await database?.drop();
      await rm(root, { recursive: true, force: true });
    },
  };
}

function openLabStore(dataDir: string, databaseUrl: string | undefined): Promise<Store> {
  return openStore({ dataDir, ...(databaseUrl === undefined ? {} : { databaseUrl }) });
}

export interface Reply {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests read answers key by key
  body: any;
}

export async function call(url: string, init: RequestInit & { json?: unknown } = {}): Promise<Reply> {
  const { json, ...rest } = init;
  const response = await fetch(url, {
    ...rest,
    ...(json === undefined
      ? {}
      : {
          method: rest.method ?? "POST",
          headers: { "content-type": "application/json", ...(rest.headers as Record<string, string>) },
          body: JSON.stringify(json),
        }),
  });
  // A stream of events does not end: its head is all that is asked for.
  const isEndless = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (isEndless) await response.body?.cancel();
  const text = isEndless ? "" : await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text === "" ? undefined : JSON.parse(text),
  };
}

/** Says `bytes` on a plain socket and listens until the other side closes, or until `isEnough` of what came. */
export function talk(
  port: number,
  bytes: string | Buffer,
  isEnough: (heard: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
    socket.setTimeout(8_000, () => {
      socket.destroy();
      reject(new Error(`the connection stayed open; it said ${JSON.stringify(heard.slice(0, 200))}`));
    });
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
      if (isEnough(heard)) socket.destroy();
    });
    socket.on("error", () => {}); // a reset is a way of closing
    socket.on("close", () => resolve(heard));
  });
}
