import { MigError } from "@mig/lifecycle";
import { asObject, readText } from "@mig/protocol";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { problemOfUrl } from "../config/values.ts";
import { boundedFetch } from "../github/bounded-fetch.ts";

export interface OidcKeysSettings {
  readonly issuer: string;
  /** Undefined: as the discovery document says. */
  readonly keysUrl?: string;
  readonly nowMs?: () => number;
}

type FoundKey = Awaited<ReturnType<ReturnType<typeof createLocalJWKSet>>>;

/** A key that the provider has taken back is good for so long at most, while the provider answers. */
const freshMs = 10 * 60_000;
/** Whoever sends unknown key ids makes one call to the provider in so long, and no more. */
const cooldownMs = 10_000;
const timeoutMs = 4_000;

/**
 * The provider's keys. They are read when somebody needs them, once for all who wait. While the provider is down, those
 * that are known go on being good; for one that is not known nobody can tell, which is `identity_unavailable` and not a
 * bad token.
 */
export class OidcKeys {
  readonly #settings: OidcKeysSettings;
  readonly #nowMs: () => number;
  #find: ReturnType<typeof createLocalJWKSet> | undefined;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #triedAtMs = Number.NEGATIVE_INFINITY;
  #failure: unknown;
  #reading: Promise<void> | undefined;

  constructor(settings: OidcKeysSettings) {
    this.#settings = settings;
    this.#nowMs = settings.nowMs ?? Date.now;
  }

  /** Throws `identity_unavailable`, and jose's own errors for a key that the provider does not have. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.#nowMs() - this.#readAtMs > freshMs) await this.#read();
    const known = await this.#lookUp(header, token);
    if (known !== undefined) return known;
    await this.#read();
    const found = await this.#lookUp(header, token);
    if (found !== undefined) return found;
    throw this.#failure === undefined ? new errors.JWKSNoMatchingKey() : this.#unavailable();
  };

  async #lookUp(...asked: Parameters<JWTVerifyGetKey>): Promise<FoundKey | undefined> {
    try {
      return await this.#find?.(...asked);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return undefined;
      throw error;
    }
  }

  #unavailable(): MigError {
    const { issuer } = this.#settings;
    const message = `the keys of ${issuer} cannot be read, so nobody can tell whether this token is good; try again, or bring an API key`;
    const waitMs = this.#triedAtMs + cooldownMs - this.#nowMs();
    return new MigError("identity_unavailable", message, {
      cause: this.#failure,
      retryAfterMs: Math.max(1_000, waitMs),
    });
  }

  /** Once for all who ask meanwhile, and not again before the cooldown is over. */
  #read(): Promise<void> {
    if (this.#reading !== undefined) return this.#reading;
    if (this.#nowMs() - this.#triedAtMs < cooldownMs) return Promise.resolve();
    this.#triedAtMs = this.#nowMs();
    this.#reading = this.#fetchKeys()
      .then(
        (keys) => {
          this.#find = createLocalJWKSet(keys);
          this.#readAtMs = this.#triedAtMs;
          this.#failure = undefined;
        },
        (error: unknown) => {
          this.#failure = error;
        },
      )
      .finally(() => {
        this.#reading = undefined;
      });
    return this.#reading;
  }

  async #fetchKeys(): Promise<JSONWebKeySet> {
    const signal = AbortSignal.timeout(timeoutMs);
    const url = this.#settings.keysUrl ?? (await this.#discover(signal));
    const content = await fetchObject(url, signal);
    if (!isKeySet(content)) throw new Error(`${url} holds no JWK set`);
    return content;
  }

  /** OpenID Connect Discovery 1.0 §4. The document must be the issuer's own (§4.3). */
  async #discover(signal: AbortSignal): Promise<string> {
    const { issuer } = this.#settings;
    const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
    const found = await fetchObject(url, signal);
    if (readText(found, "issuer") !== issuer)
      throw new Error(`${url} is of another issuer; write oidc.issuer exactly as it is there`);
    const keysUrl = readText(found, "jwks_uri");
    if (keysUrl === undefined || problemOfUrl(keysUrl) !== undefined)
      throw new Error(`${url} names no usable jwks_uri`);
    return keysUrl;
  }
}

async function fetchObject(url: string, signal: AbortSignal) {
  const response = await boundedFetch(url, { signal, headers: { accept: "application/json" } });
  const content = response.ok ? asObject(await response.json()) : undefined;
  if (content === undefined) throw new Error(`${url} answered ${response.status} and no JSON object`);
  return content;
}

function isKeySet(content: object): content is JSONWebKeySet {
  return (
    "keys" in content &&
    Array.isArray(content.keys) &&
    content.keys.every((key) => asObject(key) !== undefined)
  );
}
