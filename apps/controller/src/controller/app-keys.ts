import { MigError } from "@mig/lifecycle";
import type { AppConfig } from "../config/apps.ts";
import { type AppKey, readAppKey } from "../github/app-jwt.ts";
import type { KeyFound } from "../github/check-app.ts";
import type { HeldSecret } from "../secrets/held-secret.ts";
import type { Secrets } from "../secrets/open-secrets.ts";
import type { SecretValue } from "../secrets/secret-value.ts";

/** The keys of a GitHub App, from wherever its references lead. */
export interface AppKeys {
  /** Those that can be used, in the order in which they are tried. Rejects when there is none. */
  keysOf(app: AppConfig): Promise<readonly AppKey[]>;
  /** Each reference with what became of it, for the probe. */
  find(app: AppConfig): Promise<KeyFound[]>;
}

/**
 * Asked at every call of GitHub, and answered from memory: the secrets refresh what they hold by themselves. A new
 * version is taken only when it is a key; the version before stays beside it for a day, and so does `previous_key`.
 */
export function createAppKeys(secrets: Pick<Secrets, "get" | "signers">): AppKeys {
  const read = new WeakMap<SecretValue, AppKey>();

  function keyIn({ value }: HeldSecret): AppKey {
    const known = read.get(value);
    if (known !== undefined) return known;
    const key = readAppKey(value.reveal());
    read.set(value, key);
    return key;
  }

  async function findPair(role: KeyFound["role"], reference: string): Promise<Attempt[]> {
    try {
      const { current, previous } = await secrets.get(reference, { validate: demandAppKey, previous: true });
      return [current, previous].flatMap((held) =>
        held === undefined ? [] : [{ found: { role, reference, version: held.version, key: keyIn(held) } }],
      );
    } catch (error) {
      return [failed(role, reference, error)];
    }
  }

  async function findSigners(reference: string): Promise<Attempt[]> {
    try {
      const signers = await secrets.signers(reference);
      return signers.map((signer) => ({
        found: {
          role: "signer",
          reference,
          version: signer.version,
          key: {
            fingerprint: signer.fingerprint,
            sign: (data: string) => signer.sign("RS256", Buffer.from(data)),
          },
        },
      }));
    } catch (error) {
      return [failed("signer", reference, error)];
    }
  }

  async function attempt({ key, previousKey, signer }: AppConfig): Promise<Attempt[]> {
    const [own, signing, other] = await Promise.all([
      key === undefined ? [] : findPair("key", key),
      signer === undefined ? [] : findSigners(signer),
      previousKey === undefined ? [] : findPair("previous_key", previousKey),
    ]);
    // The two references' newest first: what an operator named counts for more than a store's history.
    const newest = [...own.slice(0, 1), ...signing.slice(0, 1), ...other.slice(0, 1)];
    const all = [...newest, ...own.slice(1), ...signing.slice(1), ...other.slice(1)];
    const seen = new Set<string>();
    return all.filter(({ found: { key: one } }) => {
      if (one === undefined) return true;
      const isNew = !seen.has(one.fingerprint);
      seen.add(one.fingerprint);
      return isNew;
    });
  }

  return {
    async keysOf(app) {
      const attempts = await attempt(app);
      const keys = attempts.flatMap(({ found }) => (found.key === undefined ? [] : [found.key]));
      const error = attempts.find((one) => one.error !== undefined)?.error;
      if (keys.length === 0 && error !== undefined) throw error;
      return keys;
    },
    async find(app) {
      return (await attempt(app)).map(({ found }) => found);
    },
  };
}

interface Attempt {
  found: KeyFound;
  error?: unknown;
}

function failed(role: KeyFound["role"], reference: string, error: unknown): Attempt {
  const problem = error instanceof MigError ? error.message : "the secret cannot be read";
  return { found: { role, reference, problem }, error };
}

/** One function for all: two Apps may name one reference. */
function demandAppKey(value: SecretValue): void {
  readAppKey(value.reveal());
}
