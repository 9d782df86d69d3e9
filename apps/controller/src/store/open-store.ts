import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { type Log, silentLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type Dialect, Kysely, PGliteDialect, sql, type Transaction } from "kysely";
import pg from "pg";
import { lockDirectory } from "./lock-directory.ts";
import { migrate } from "./migrate.ts";
import { later, serverDialect } from "./server-driver.ts";
import { openWakes, type Wakes } from "./wakes.ts";

/** All statements are written as SQL; the tables are described in rows.ts and not in Kysely's own types. */
type Untyped = Record<string, never>;
export type Tx = Transaction<Untyped>;

/**
 * PostgreSQL, wherever it is: in this process with its files below the data directory (PGlite, the default), or a
 * server (`DATABASE_URL`). One dialect, one set of migrations and queries. PGlite survives `kill -9` of the process;
 * it runs without fsync, so a power loss can lose the last moments (DESIGN §3). It has one connection: transactions
 * queue behind each other.
 */
export interface Store extends AsyncDisposable {
  readonly kind: "pglite" | "server";
  /** Runs `work` in one transaction. Rejects with `storage_unavailable` when the database cannot be had. */
  transact<T>(work: (tx: Tx) => Promise<T>, options?: TransactOptions): Promise<T>;
  isReachable(): Promise<boolean>;
  /** Who is told that commands wait. Units of work use it by themselves. */
  readonly wakes: Wakes;
}

export interface TransactOptions {
  /**
   * The commit is not waited for until it is on disk: a crash of the database can undo the last moments' worth, in
   * order, as if they had not been. Only for what is then simply done again.
   */
  mayBeForgotten?: boolean;
}

export interface StoreSettings {
  dataDir: string;
  databaseUrl?: string;
  /** False behind a pooler that gives each transaction another connection and knows no prepared statements. */
  prepare?: boolean;
  connectionsMax?: number;
  log?: Log;
}

export async function openStore(settings: StoreSettings): Promise<Store> {
  const opened =
    settings.databaseUrl === undefined ? await openPglite(settings.dataDir) : openServer(settings);
  const db = new Kysely<Untyped>({ dialect: opened.dialect });
  // Kysely's PGlite driver hands the same connection to everybody, so a second transaction would join the first.
  const inTurn = opened.oneAtATime ? takeTurns() : <T>(work: () => Promise<T>): Promise<T> => work();
  let wakes: Wakes | undefined;
  const close = async (): Promise<void> => {
    await wakes?.[Symbol.asyncDispose]();
    await db.destroy();
    await opened.close();
  };
  try {
    await migrate(db);
  } catch (error) {
    await close();
    return translate(error);
  }
  wakes = openWakes(settings.databaseUrl, randomBytes(6).toString("hex"), settings.log ?? silentLog);
  return {
    kind: opened.oneAtATime ? "pglite" : "server",
    transact: (work, options) =>
      inTurn(() => db.transaction().execute(begun(work, opened, options))).catch(translate),
    isReachable: () =>
      inTurn(() => sql`select 1`.execute(db)).then(
        () => true,
        () => false,
      ),
    wakes,
    [Symbol.asyncDispose]: close,
  };
}

interface Opened {
  dialect: Dialect;
  oneAtATime: boolean;
  close(): Promise<void>;
}

/** `.mig` begins with a dot, so no VM id can be the name of it (sample mode keeps a folder for each VM beside it). */
async function openPglite(dataDir: string): Promise<Opened> {
  const directory = join(dataDir, ".mig");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const unlock = await lockDirectory(directory);
  try {
    const pglite = await PGlite.create(join(directory, "pglite"));
    return { dialect: new PGliteDialect({ pglite }), oneAtATime: true, close: unlock };
  } catch (cause) {
    await unlock();
    throw new MigError("storage_unavailable", `the database in ${directory} does not open`, { cause });
  }
}

/** The embedded database waits for no disk anyway. */
function begun<T>(
  work: (tx: Tx) => Promise<T>,
  { oneAtATime }: Opened,
  { mayBeForgotten = false }: TransactOptions = {},
): (tx: Tx) => Promise<T> {
  if (!mayBeForgotten || oneAtATime) return work;
  return async (tx) => {
    await later(tx, sql`set local synchronous_commit to off`);
    return work(tx);
  };
}

function openServer({ databaseUrl, connectionsMax = 10, prepare = true }: StoreSettings): Opened {
  const pool = new pg.Pool({
    pipeline: true,
    connectionString: databaseUrl,
    max: connectionsMax,
    connectionTimeoutMillis: 5_000,
    // A statement that takes longer is in trouble; the caller has long been told to come back.
    statement_timeout: 15_000,
    query_timeout: 20_000,
    // A replica that stands still in the middle of a unit must not keep its VMs' rows locked for the others.
    idle_in_transaction_session_timeout: 15_000,
    keepAlive: true,
    application_name: "mig-controller",
  });
  // A connection that breaks reports an error of its own, idle (to the pool) or in use between two queries (only to
  // the client); without a listener either would end the process. The next query's error is what callers see.
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return { dialect: serverDialect(pool, prepare), oneAtATime: false, close: async () => {} };
}

/** Runs one piece of work after the other, in the order of the calls. */
function takeTurns(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<void> = Promise.resolve();
  return (work) => {
    // PGlite works on this thread and settles within microtasks: a thousand units in a row would let nothing else
    // happen, not even a probe (measured: the event loop stood still for 10.8 s).
    const turn = last.then(() => new Promise((resolve) => setImmediate(resolve))).then(work);
    last = turn.then(
      () => {},
      () => {},
    );
    return turn;
  };
}

/**
 * SQLSTATE classes that say "not now": connection, resources, operator intervention, system, lost races, a server that
 * takes no writes for the moment (25006, the old primary after a failover), and one that does not let us in (28, 3D).
 */
const passing = /^(?:08|53|57|58|40|25|28|3D)/;

function translate(error: unknown): never {
  if (error instanceof MigError) throw error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const networkTrouble =
    /^E[A-Z]+$/.test(code) ||
    (error instanceof Error && /timeout|terminated|closed|not queryable/i.test(error.message));
  if (passing.test(code) || networkTrouble) {
    throw new MigError("storage_unavailable", "the database does not answer; try again", {
      cause: error,
      retryAfterMs: 1_000,
    });
  }
  throw new MigError("internal", "the database refused a statement", { cause: error });
}
