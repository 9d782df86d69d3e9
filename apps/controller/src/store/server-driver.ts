import type { Writable } from "node:stream";
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type RawBuilder,
} from "kysely";
import type pg from "pg";
import type { Tx } from "./open-store.ts";

/**
 * How statements reach a PostgreSQL server. Commands wait for transactions, and what a transaction costs is its trips
 * to the server and the planning of its statements, so
 *
 * prepared   a statement with parameters is parsed and planned once a connection, not each time. An order and its
 *            delivery took 13.5 ms without and 7.5 ms with (PostgreSQL 15, two cores).
 * sent ahead what nobody has to read the answer of (`begin`, the writes at the end: `later`) goes out together with
 *            the next statement that has to be waited for, at the latest with `commit`; the server works off one after
 *            the other (PostgreSQL docs, "Pipelining"). Whatever fails among them fails the transaction with its own
 *            error.
 */
export function serverDialect(pool: pg.Pool, prepare: boolean): Dialect {
  const nameOf = prepare ? createNames() : () => undefined;
  return {
    createDriver: () => new ServerDriver(pool, nameOf),
    createAdapter: () => new PostgresAdapter(),
    createQueryCompiler: () => new PostgresQueryCompiler(),
    createIntrospector: (db) => new PostgresIntrospector(db),
  };
}

/** Statements whose answer nobody waits for. The server's connection knows them; other engines just run them. */
const unawaited = new WeakSet<object>();

/**
 * Runs a statement at the latest with the commit, and before every later statement of the transaction. An error fails
 * the next statement that is waited for, or the commit.
 */
export async function later(tx: Tx, statement: RawBuilder<unknown>): Promise<void> {
  const compiled = statement.compile(tx);
  unawaited.add(compiled);
  await tx.executeQuery(compiled);
}

/** Each connection keeps a plan for each name, so texts that are never the same twice must not get one. */
const namesMax = 400;

function createNames(): (text: string) => string | undefined {
  const names = new Map<string, string>();
  return (text) => {
    const known = names.get(text);
    if (known !== undefined || names.size >= namesMax) return known;
    const name = `mig_${names.size}`;
    names.set(text, name);
    return name;
  };
}

type NameOf = (text: string) => string | undefined;

class ServerDriver implements Driver {
  readonly #pool: pg.Pool;
  readonly #nameOf: NameOf;

  constructor(pool: pg.Pool, nameOf: NameOf) {
    this.#pool = pool;
    this.#nameOf = nameOf;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<ServerConnection> {
    return new ServerConnection(await this.#pool.connect(), this.#nameOf);
  }

  async beginTransaction(connection: ServerConnection): Promise<void> {
    connection.sendAhead(CompiledQuery.raw("begin"));
  }

  commitTransaction(connection: ServerConnection): Promise<void> {
    return connection.commit();
  }

  rollbackTransaction(connection: ServerConnection): Promise<void> {
    return connection.rollback();
  }

  async releaseConnection(connection: ServerConnection): Promise<void> {
    connection.release();
  }

  destroy(): Promise<void> {
    return this.#pool.end();
  }
}

class ServerConnection implements DatabaseConnection {
  readonly #client: pg.PoolClient;
  readonly #nameOf: NameOf;
  /** What nobody waits for: it goes out in one piece with the next statement that somebody does wait for. */
  #ahead: CompiledQuery[] = [];
  /** Nobody knows what state it is in: it must not serve another. */
  #isSpoilt = false;

  constructor(client: pg.PoolClient, nameOf: NameOf) {
    this.#client = client;
    this.#nameOf = nameOf;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (unawaited.has(query)) {
      this.sendAhead(query);
      return { rows: [] };
    }
    const { command, rowCount, rows } = await this.#send(query);
    const isChange = /^(?:INSERT|UPDATE|DELETE|MERGE)$/.test(command);
    return {
      rows: (rows ?? []) as R[],
      ...(isChange ? { numAffectedRows: BigInt(rowCount ?? 0) } : {}),
    };
  }

  // biome-ignore lint/correctness/useYield: it has nothing to yield
  async *streamQuery(): AsyncIterableIterator<never> {
    throw new Error("rows are not streamed here");
  }

  sendAhead(query: CompiledQuery): void {
    this.#ahead.push(query);
  }

  async commit(): Promise<void> {
    const { command } = await this.#send(CompiledQuery.raw("commit"));
    // The server ends a transaction that had failed with ROLLBACK, and calls that a success.
    if (command === "ROLLBACK") throw new Error("the transaction had failed, and was rolled back");
  }

  async rollback(): Promise<void> {
    this.#ahead = [];
    try {
      await this.#send(CompiledQuery.raw("rollback"));
    } catch (error) {
      this.#isSpoilt = true;
      throw error;
    }
  }

  release(): void {
    this.#client.release(this.#isSpoilt);
  }

  /**
   * The first error is the cause; after it the server refuses the rest only because the transaction has failed. All
   * answers are waited for: whoever hears of an error finds a connection on which nothing is under way.
   */
  async #send(query: CompiledQuery): Promise<pg.QueryResult> {
    const ahead = this.#ahead;
    this.#ahead = [];
    const stream = streamOf(this.#client);
    // One write instead of one a statement: each is a system call, and a packet.
    stream?.cork();
    const before = ahead.map((one) => this.#submit(one));
    const answer = this.#submit(query);
    stream?.uncork();
    const failed = (await Promise.allSettled([...before, answer])).find(
      ({ status }) => status === "rejected",
    );
    if (failed?.status === "rejected") throw failed.reason;
    return answer;
  }

  #submit({ sql, parameters }: CompiledQuery): Promise<pg.QueryResult> {
    // Only a statement with parameters: the others are `begin` and migrations, some of which are several in one.
    const name = parameters.length > 0 ? this.#nameOf(sql) : undefined;
    return this.#client.query({
      text: sql,
      values: [...parameters],
      ...(name === undefined ? {} : { name }),
    });
  }
}

/** pg does not say that it has one; without it, everything is as before and only slower. */
function streamOf(client: pg.PoolClient): Writable | undefined {
  const { connection } = client as { connection?: { stream?: Writable } };
  return connection?.stream;
}
