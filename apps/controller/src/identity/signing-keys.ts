import { randomBytes } from "node:crypto";
import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type JsonObject, toJsonObject } from "@mig/protocol";
import { type CryptoKey, exportJWK, exportPKCS8, generateKeyPair, importJWK, importPKCS8 } from "jose";
import { sql } from "kysely";
import type { Sealer } from "../secrets/sealer.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { columnList, insertRows, type Table } from "../store/table.ts";

/**
 * The keys that sign VM tokens, shared by all replicas. A key is
 *
 * next      published, and signs nothing yet: whoever caches the published keys has it before it is needed
 * signing   from `signsFromMs` to `signsUntilMs`
 * retiring  signs nothing more; what it signed is good until `goodUntilMs`
 * gone      removed
 */
interface KeyRow {
  kid: string;
  publicJwk: JsonObject;
  sealed: string;
  createdAtMs: number;
  signsFromMs: number;
  signsUntilMs: number;
  goodUntilMs: number;
}

const table: Table<KeyRow> = {
  name: "signing_keys",
  columns: {
    kid: "text",
    publicJwk: "json",
    sealed: "text",
    createdAtMs: "time",
    signsFromMs: "time",
    signsUntilMs: "time",
    goodUntilMs: "time",
  },
};

export interface KeyTimes {
  /** A key signs so long. */
  readonly rotateMs: number;
  /** It is published so long before. */
  readonly aheadMs: number;
  /** The longest that anything signed is good, and clocks that differ. */
  readonly overlapMs: number;
}

export const keyTimes: KeyTimes = { rotateMs: 86_400_000, aheadMs: 600_000, overlapMs: 1_200_000 };

const lookAgainMs = 250;

interface Held {
  readonly row: KeyRow;
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
}

export interface SigningKeysSettings {
  readonly store: Store;
  readonly sealer: Sealer;
  readonly times?: KeyTimes;
}

export class SigningKeys {
  readonly #settings: SigningKeysSettings;
  readonly #times: KeyTimes;
  #held = new Map<string, Held>();
  #lookedMs = Number.NEGATIVE_INFINITY;
  #nextLook: Promise<void> | undefined;

  private constructor(settings: SigningKeysSettings) {
    this.#settings = settings;
    this.#times = settings.times ?? keyTimes;
  }

  static async open(settings: SigningKeysSettings): Promise<SigningKeys> {
    const keys = new SigningKeys(settings);
    await keys.refresh();
    return keys;
  }

  /** Reads what other replicas made, makes what is missing, removes what is over. Call it each minute or so. */
  async refresh(): Promise<void> {
    const rows = await this.#settings.store.transact((tx) => this.#arrange(tx));
    const held = new Map<string, Held>();
    for (const row of rows) held.set(row.kid, this.#held.get(row.kid) ?? (await this.#open(row)));
    this.#held = held;
  }

  /** The key that signs now. */
  signer(nowMs: number): { kid: string; key: CryptoKey } {
    const current = [...this.#held.values()]
      .filter(({ row }) => row.signsFromMs <= nowMs && nowMs < row.goodUntilMs)
      .sort((a, b) => b.row.signsFromMs - a.row.signsFromMs)[0];
    if (current === undefined)
      throw new MigError("storage_unavailable", "there is no key to sign tokens with yet");
    return { kid: current.row.kid, key: current.privateKey };
  }

  isHeld(kid: string): boolean {
    return this.#held.has(kid);
  }

  /**
   * The key of that name. One that is not held may be another replica's, made after this one looked: when a leaked key
   * was removed the next one signs at once, without the time ahead. Whoever asks waits for a look that begins after
   * they did; made-up names make four of them a second at most.
   */
  async verifier(kid: string): Promise<CryptoKey | undefined> {
    if (!this.#held.has(kid)) await this.#lookAgain();
    return this.#held.get(kid)?.publicKey;
  }

  #lookAgain(): Promise<void> {
    this.#nextLook ??= pause(Math.max(0, this.#lookedMs + lookAgainMs - performance.now())).then(() => {
      this.#nextLook = undefined;
      this.#lookedMs = performance.now();
      return this.refresh();
    });
    return this.#nextLook;
  }

  /** RFC 7517, for `/.well-known/jwks.json`. */
  published(): object[] {
    return [...this.#held.values()].map(({ row }) => row.publicJwk);
  }

  /** A key that leaked: nothing that it signed is good from now on, anywhere within a refresh. */
  async remove(kid: string): Promise<void> {
    await this.#settings.store.transact((tx) => sql`delete from signing_keys where kid = ${kid}`.execute(tx));
    await this.refresh();
  }

  async #arrange(tx: Tx): Promise<KeyRow[]> {
    const { rotateMs, aheadMs, overlapMs } = this.#times;
    // Read without a lock first: on most days nothing changes.
    const read = async (): Promise<{ rows: KeyRow[]; nowMs: number }> => {
      const { rows } =
        await sql<KeyRow>`select ${columnList(table)} from signing_keys order by signs_from`.execute(tx);
      const { rows: time } = await sql<{ nowMs: number }>`select
        round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs"`.execute(tx);
      return { rows, nowMs: time[0]?.nowMs ?? Date.now() };
    };
    const isDue = ({ rows, nowMs }: { rows: KeyRow[]; nowMs: number }): boolean =>
      rows.some((row) => row.goodUntilMs <= nowMs) || !rows.some((row) => row.signsUntilMs > nowMs + aheadMs);
    let found = await read();
    if (!isDue(found)) return found.rows;
    await sql`lock table signing_keys in share row exclusive mode`.execute(tx);
    found = await read();
    if (!isDue(found)) return found.rows;
    const { nowMs } = found;
    await sql`delete from signing_keys where good_until <= to_timestamp(${nowMs} / 1000.0)`.execute(tx);
    const last = found.rows.at(-1);
    if (last === undefined || last.signsUntilMs <= nowMs + aheadMs) {
      const isFirst = last === undefined || last.signsUntilMs <= nowMs;
      const signsFromMs = isFirst ? nowMs : last.signsUntilMs;
      await insertRows(table, [await this.#make(nowMs, signsFromMs, rotateMs, overlapMs)]).execute(tx);
    }
    return (await read()).rows;
  }

  async #make(nowMs: number, signsFromMs: number, rotateMs: number, overlapMs: number): Promise<KeyRow> {
    const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
    const kid = randomBytes(12).toString("base64url");
    const publicJwk = toJsonObject({ ...(await exportJWK(publicKey)), kid, alg: "ES256", use: "sig" });
    const sealed = this.#settings.sealer.seal(await exportPKCS8(privateKey), aboutKey(kid));
    const signsUntilMs = signsFromMs + rotateMs;
    return {
      kid,
      publicJwk,
      sealed,
      createdAtMs: nowMs,
      signsFromMs,
      signsUntilMs,
      goodUntilMs: signsUntilMs + overlapMs,
    };
  }

  async #open(row: KeyRow): Promise<Held> {
    const pem = this.#settings.sealer.open(row.sealed, aboutKey(row.kid));
    const publicKey = await importJWK(row.publicJwk, "ES256");
    if (publicKey instanceof Uint8Array)
      throw new MigError("internal", `the key ${row.kid} is not a public key`);
    return { row, publicKey, privateKey: await importPKCS8(pem, "ES256") };
  }
}

/** Binds the sealed key to its row. */
export function aboutKey(kid: string): string {
  return `signing_keys:${kid}`;
}
