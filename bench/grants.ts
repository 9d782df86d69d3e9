import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { silentLog } from "@mig/kit";
import { asObject, readText } from "@mig/protocol";
import { connectGithub, createAppKey } from "@mig/sandbox";
import pg from "pg";
import { readAppKey, signJwt } from "../apps/controller/src/github/app-jwt.ts";
import type { Pool } from "../apps/controller/src/github/grant-source.ts";
import { openGrants } from "../apps/controller/src/runner/open-grants.ts";
import { createSealer } from "../apps/controller/src/runner/seal.ts";
import { openStore, type Store } from "../apps/controller/src/store/open-store.ts";

/**
 * How fast grants are made, beside a bare floor from the same run: as many JWTs signed as the controller signs, and one
 * plain HTTP call for each grant to the same stand-in, which answers at once from a process of its own. The difference is
 * what the line costs: a row that survives a crash, one for each VM, in turns, paced, sealed.
 *
 *   node --conditions=mig-source bench/grants.ts [grants]     on PGlite, and on PostgreSQL when one answers
 *
 * The pace is opened wide: in the field it is what rules, at about three a second.
 */
const grants = Number(process.argv[2] ?? 1_000);
/** VMs that wait at the same time; the floor has as many calls under way as one maker has. */
const waiting = 64;
const callsAtOnce = 8;
const perMinute = 10_000_000;
const serverUrl = process.env["DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

interface Figures {
  perSecond: number;
  p50: number;
  p99: number;
}

const scratch = await mkdtemp(join(tmpdir(), "mig-bench-"));
const key = createAppKey();
const appKey = readAppKey(key.privateKeyPem);
await writeFile(join(scratch, "app.pem"), key.publicKeyPem);
try {
  await compare("PGlite", () => openStore({ dataDir: join(scratch, "pglite") }));
  await onServer(async (databaseUrl) => {
    await compare("PostgreSQL", () => openStore({ dataDir: "", databaseUrl }));
  });
} finally {
  await rm(scratch, { recursive: true, force: true });
}

async function onServer(work: (databaseUrl: string) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl, connectionTimeoutMillis: 1_000 });
  try {
    await client.connect();
  } catch {
    console.log(`PostgreSQL: none answers at ${serverUrl}, not measured; DATABASE_URL names another one`);
    return;
  }
  const name = `mig_bench_${randomBytes(6).toString("hex")}`;
  await client.query(`create database ${name}`);
  try {
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    await work(url.href);
  } finally {
    await client.query(`drop database ${name} with (force)`);
    await client.end();
  }
}

async function compare(name: string, open: () => Promise<Store>): Promise<void> {
  const { child, url } = await startStandIn();
  const store = await open();
  try {
    // Once each unmeasured: compilers warm up, connections open.
    await measureFloor(url, "warm", 2, 200);
    await measureOurs(store, url, "warm", 200);
    const before = await signedFor(url);
    const ours = await measureOurs(store, url, "vm", grants);
    const jwts = (await signedFor(url)) - before;
    const alone = await measureOurs(store, url, "alone", Math.ceil(grants / 10), 1);
    const floor = await measureFloor(url, "bare", jwts, grants);
    console.log(`${name}, ${grants} grants, ${waiting} VMs waiting at once, ${jwts} JWTs`);
    report(`bare: sign and POST, ${callsAtOnce} at once (floor)`, floor);
    report("grants through the line", ours);
    report("the same, one VM at a time", alone);
    console.log(`ratio to the floor: ${(floor.perSecond / ours.perSecond).toFixed(2)}`);
  } finally {
    await store[Symbol.asyncDispose]();
    child.kill("SIGTERM");
    await once(child, "exit");
  }
}

async function startStandIn(): Promise<{ child: ChildProcess; url: string }> {
  const main = fileURLToPath(new URL("../packages/sandbox/src/github/main.ts", import.meta.url));
  const args = ["--conditions=mig-source", main, "--public-key", join(scratch, "app.pem")];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { child, url: String((JSON.parse(line) as { url: unknown }).url) };
}

async function measureOurs(
  store: Store,
  url: string,
  prefix: string,
  count: number,
  atOnce = waiting,
): Promise<Figures> {
  const ends = new AbortController();
  const pool: Pool = {
    id: "p",
    orgId: "acme",
    runnerUrl: `${url}/acme`,
    runnerGroup: "default",
    labels: ["self-hosted"],
    registration: "jit",
  };
  await using open = openGrants({
    store,
    apps: [
      {
        id: "default",
        apiUrl: url,
        appId: "1234",
        keys: async () => [appKey],
        perMinuteStart: perMinute,
        perMinuteMax: perMinute,
      },
    ],
    appOf: () => "default",
    poolOf: () => pool,
    sealer: createSealer(Buffer.alloc(32, 1)),
    wakeVm: () => {},
    onAlarm: () => {},
    log: silentLog,
    signal: ends.signal,
  });
  try {
    return await measure(count, atOnce, (n) =>
      open.source.take(
        { vmId: `${prefix}-${n}`, incarnation: "b", requestId: "r", orgId: "acme", poolId: "p", pool },
        120_000,
      ),
    );
  } finally {
    ends.abort();
  }
}

/** Every JWT buys a token, as the controller's do or nearly; the last one pays for the calls. */
async function measureFloor(url: string, prefix: string, jwts: number, count: number): Promise<Figures> {
  const post = async (path: string, bearer: string, body: object): Promise<string> => {
    const answer = await fetch(url + path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${bearer}`,
        "content-type": "application/json",
        "user-agent": "bench",
      },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`POST ${path} answered ${answer.status}: ${await answer.text()}`);
    return answer.text();
  };
  let token: Promise<string> | undefined;
  const buy = async (): Promise<string> => {
    let text = "";
    for (let i = 0; i < jwts; i += 1)
      text = await post("/app/installations/1/access_tokens", await signJwt("1234", appKey, Date.now()), {});
    return readText(asObject(JSON.parse(text)) ?? {}, "token") ?? "";
  };
  return measure(count, callsAtOnce, async (n) => {
    token ??= buy();
    await post("/orgs/acme/actions/runners/generate-jitconfig", await token, {
      name: `${prefix}-${n}`,
      runner_group_id: 1,
      labels: ["self-hosted"],
    });
  });
}

/** How many calls came with a JWT so far. */
async function signedFor(url: string): Promise<number> {
  return (await connectGithub(url).requests()).filter(({ actor }) => actor === "app").length;
}

async function measure(
  count: number,
  atOnce: number,
  work: (n: number) => Promise<unknown>,
): Promise<Figures> {
  const tookMs: number[] = [];
  let next = 0;
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < count) {
        const n = next;
        next += 1;
        const beganMs = performance.now();
        await work(n);
        tookMs.push(performance.now() - beganMs);
      }
    }),
  );
  const seconds = (performance.now() - startMs) / 1000;
  tookMs.sort((a, b) => a - b);
  const at = (share: number): number => tookMs[Math.min(count - 1, Math.floor(count * share))] ?? 0;
  return { perSecond: count / seconds, p50: at(0.5), p99: at(0.99) };
}

function report(what: string, { perSecond, p50, p99 }: Figures): void {
  const rate = Math.round(perSecond).toLocaleString("en").padStart(8);
  console.log(`${what.padEnd(44)} ${rate} /s   p50 ${p50.toFixed(1)} ms   p99 ${p99.toFixed(1)} ms`);
}
