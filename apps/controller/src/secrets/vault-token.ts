import type { Clock, Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readNumber, readText } from "@mig/protocol";
import { createRetirement } from "./retirement.ts";
import { SecretValue } from "./secret-value.ts";
import type { SendVault, VaultAnswer, VaultRequest } from "./vault-session.ts";

export type VaultAuth =
  /** A token from somewhere else, asked for again when Vault does not know it any more: an agent may have put another there. */
  | { method: "token"; token: () => Promise<SecretValue> }
  /** The pod's own service account token buys one. `mount` as it was enabled; default `kubernetes`. */
  | { method: "kubernetes"; role: string; mount?: string; jwt: () => Promise<SecretValue> };

export interface VaultToken {
  get(signal: AbortSignal): Promise<SecretValue>;
  /** Whether Vault knows it. */
  isAlive(token: SecretValue, signal: AbortSignal): Promise<boolean>;
  /** It is of no use any more. */
  drop(token: SecretValue): void;
  close(): Promise<void>;
}

interface TokenSettings {
  who: string;
  auth: VaultAuth;
  send: SendVault;
  refusal(answer: VaultAnswer, what: string): MigError;
  clock: Clock;
  log: Log;
}

interface Lease {
  token: SecretValue;
  /** Undefined: it never ends. */
  leaseMs: number | undefined;
  isRenewable: boolean;
}

/**
 * A token with a lease is renewed at two thirds of it. A lease that renewal makes less than half as long as the first
 * has nearly reached its maximum, and one that cannot be renewed has: then a new token is bought in time, so that
 * no read ever waits for one.
 */
export function createVaultToken({ who, auth, send, refusal, clock, log }: TokenSettings): VaultToken {
  const closing = new AbortController();
  let held: Lease | undefined;
  let firstLeaseMs = 0;
  let underWay: Promise<Lease> | undefined;
  let cancelTimer = (): void => {};
  const retirement = createRetirement(clock);

  const about = (path: string, method: "GET" | "POST", body?: VaultRequest["body"]): VaultRequest => ({
    method,
    path,
    ...maybe("body", body),
    what: path,
    signal: AbortSignal.any([closing.signal, AbortSignal.timeout(10_000)]),
  });

  async function obtain(): Promise<Lease> {
    const lease = auth.method === "token" ? await lookUp(auth.token) : await logIn(auth);
    firstLeaseMs = lease.leaseMs ?? 0;
    take(lease);
    return held ?? lease;
  }

  async function lookUp(read: () => Promise<SecretValue>): Promise<Lease> {
    const token = new SecretValue((await read()).reveal().trim());
    const answer = await send(token, about("auth/token/lookup-self", "GET"));
    if (answer.status !== 200) {
      token.dispose();
      // Also 403: whether the token is old or its policy strange, this token does not work.
      throw answer.status === 403
        ? new MigError(
            "secret_forbidden",
            `${who} does not know the token that we were given (403); put a living one there, with the policy "default", which lets it be looked up and renewed`,
          )
        : refusal(answer, "its token");
    }
    const data = asObject(answer.body["data"]) ?? {};
    const seconds = readNumber(data, "ttl") ?? 0;
    return {
      token,
      leaseMs: seconds > 0 ? seconds * 1_000 : undefined,
      isRenewable: data["renewable"] === true,
    };
  }

  async function logIn({
    role,
    mount = "kubernetes",
    jwt,
  }: Extract<VaultAuth, { method: "kubernetes" }>): Promise<Lease> {
    const path = `auth/${mount.split("/").map(encodeURIComponent).join("/")}/login`;
    const answer = await send(undefined, about(path, "POST", { role, jwt: (await jwt()).reveal().trim() }));
    if (answer.status !== 200) throw refusal(answer, `a login as role "${role}"`);
    return leaseOf(answer) ?? fail();
  }

  const fail = (): never => {
    throw new MigError("secret_unavailable", `${who} answers a login without a token`);
  };

  function leaseOf({ body }: VaultAnswer): Lease | undefined {
    const given = asObject(body["auth"]) ?? {};
    const text = readText(given, "client_token");
    if (text === undefined || !/^[!-~]{1,8192}$/.test(text)) return undefined;
    const seconds = readNumber(given, "lease_duration") ?? 0;
    return {
      token: new SecretValue(text),
      leaseMs: seconds > 0 ? seconds * 1_000 : undefined,
      isRenewable: given["renewable"] === true,
    };
  }

  function take(given: Lease): void {
    const isSame = held?.token.equals(given.token) === true;
    const lease = isSame && held !== undefined ? { ...given, token: held.token } : given;
    if (isSame) given.token.dispose();
    else retirement.retire(held?.token);
    held = lease;
    cancelTimer();
    if (lease.leaseMs === undefined || closing.signal.aborted) return;
    const untilMs = clock.monotonicMs() + lease.leaseMs;
    const delayMs = isNearItsEnd(lease) ? 0 : (lease.leaseMs * 2) / 3;
    cancelTimer = clock.after(delayMs, () => void keepAlive(lease, untilMs));
  }

  const isNearItsEnd = ({ leaseMs }: Lease): boolean => (leaseMs ?? firstLeaseMs) * 2 < firstLeaseMs;

  async function keepAlive(lease: Lease, untilMs: number): Promise<void> {
    if (held !== lease) return;
    try {
      if (lease.isRenewable && !isNearItsEnd(lease)) await renew(lease);
      else await replace(lease);
    } catch (error) {
      if (held !== lease || closing.signal.aborted) return;
      const leftMs = untilMs - clock.monotonicMs();
      log.warn({ error, left_ms: Math.round(leftMs) }, "Vault's token was not renewed");
      if (leftMs <= 0) return drop(lease.token);
      cancelTimer = clock.after(Math.max(500, leftMs / 4), () => void keepAlive(lease, untilMs));
    }
  }

  async function renew(lease: Lease): Promise<void> {
    const answer = await send(lease.token, about("auth/token/renew-self", "POST", {}));
    if (held !== lease) return;
    if (answer.status === 403) return replace(lease);
    if (answer.status !== 200) throw refusal(answer, "the renewal of its token");
    const renewed = leaseOf(answer);
    if (renewed === undefined)
      throw new MigError("secret_unavailable", `${who} answers a renewal without a token`);
    take(renewed);
  }

  /** The old one is left to its end: a read may be using it. */
  async function replace(lease: Lease): Promise<void> {
    if (underWay === undefined && held === lease) await start();
  }

  function start(): Promise<Lease> {
    underWay ??= obtain().finally(() => {
      underWay = undefined;
    });
    return underWay;
  }

  function drop(token: SecretValue): void {
    if (held?.token !== token) return;
    held = undefined;
    cancelTimer();
    retirement.retire(token);
  }

  return {
    async get() {
      if (closing.signal.aborted) throw new MigError("secret_unavailable", "the controller is stopping");
      return (held ?? (await start())).token;
    },
    async isAlive(token, signal) {
      if (held?.token !== token) return false;
      const answer = await send(token, { ...about("auth/token/lookup-self", "GET"), signal });
      return answer.status === 200;
    },
    drop,
    async close() {
      cancelTimer();
      const lease = held;
      held = undefined;
      // What was bought is given back; what was given to us is not ours to end.
      if (lease !== undefined && auth.method === "kubernetes") {
        const goodbye = {
          ...about("auth/token/revoke-self", "POST", {}),
          signal: AbortSignal.timeout(1_000),
        };
        await send(lease.token, goodbye).catch(() => {});
      }
      closing.abort();
      await underWay?.catch(() => {});
      cancelTimer();
      retirement.close();
      lease?.token.dispose();
    },
  };
}
