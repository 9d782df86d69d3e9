import { type Log, retry } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";
import type { Store } from "../store/open-store.ts";
import type { CachedSecret, SecretPair } from "./held-secret.ts";
import { readKeyRing } from "./key-ring.ts";
import { countKeys, type RewrapReport, rewrapAll, type SealedTable } from "./rewrap.ts";
import type { HeldSealer } from "./sealer.ts";
import type { SecretValue } from "./secret-value.ts";

/**
 * Follows the secret that holds the master keys. A new ring is taken only when it still opens everything that rests in
 * the database, so a key that is removed too early is an alarm and not a loss; what rests under an older key than the
 * newest is then brought under it, in the background.
 */
export interface MasterKeys {
  /** Reads them now. Rejects when they cannot be had or do not hold. */
  read(): Promise<void>;
  rewrap(): Promise<RewrapReport>;
  close(): Promise<void>;
}

export interface MasterKeySettings {
  /** The reference, for messages. */
  where: string;
  secret: CachedSecret;
  sealer: HeldSealer;
  store: Store;
  tables: readonly SealedTable[];
  log: Log;
}

export function createMasterKeys({
  where,
  secret,
  sealer,
  store,
  tables,
  log,
}: MasterKeySettings): MasterKeys {
  const closing = new AbortController();
  let underWay: Promise<RewrapReport> | undefined;

  const validate = async (value: SecretValue): Promise<void> => {
    const ring = readKeyRing(value.revealBytes(), where);
    const missing = [...(await countKeys(store, tables))].filter(([id]) => !ring.has(id));
    ring.dispose();
    if (missing.length === 0) return;
    const list = missing.map(([id, count]) => `${id} (${count})`).join(", ");
    const message = `${where} lacks master keys that secrets are still sealed with: ${list}; put them back below the first`;
    // What the ring in use does not open either is lost already, and must not keep the others from being rotated.
    if (missing.some(([id]) => sealer.isReady() && sealer.keyIds().includes(id)))
      throw new MigError("secret_invalid", message);
    log.error({ missing: missing.map(([id]) => id) }, message);
  };

  function adopt({ current }: SecretPair): void {
    const before = sealer.isReady() ? sealer.keyId() : undefined;
    sealer.adopt(current.value, where);
    if (before === sealer.keyId()) return;
    log.info({ key: sealer.keyId(), opens: sealer.keyIds() }, "a master key seals from now on");
    retry(rewrap, {
      attemptsMax: 20,
      firstMs: 1_000,
      capMs: 60_000,
      signal: closing.signal,
      classify: (error) => ({ retry: error instanceof MigError && isRetryable(error.category) }),
    }).catch((error: unknown) =>
      log.error({ error }, "secrets are left under an older master key; it goes on at the next start"),
    );
  }

  function rewrap(): Promise<RewrapReport> {
    underWay ??= rewrapAll(store, sealer, tables, log, closing.signal)
      .then((report) => {
        const fields = {
          rewrapped: report.rewrapped,
          left: Object.fromEntries(report.left),
          broken: report.broken,
        };
        if (report.rewrapped > 0 || report.left.size > 0)
          log.info(fields, "secrets were brought under the newest master key");
        return report;
      })
      .finally(() => {
        underWay = undefined;
      });
    return underWay;
  }

  const unwatch = secret.watch(adopt);
  return {
    async read() {
      const pair = await secret.get({ validate });
      if (sealer.isReady()) await secret.refresh();
      else adopt(pair);
    },
    rewrap,
    async close() {
      unwatch();
      closing.abort();
      await underWay?.catch(() => {});
      sealer.dispose();
    },
  };
}
