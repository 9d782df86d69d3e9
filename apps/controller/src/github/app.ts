import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { readNumber, readText, readTimeMs, type Unknown } from "@mig/protocol";
import type { Account } from "./account.ts";
import { type AppKey, signJwt } from "./app-jwt.ts";
import type { Installations } from "./installations.ts";
import type { Pace, Weight } from "./pace.ts";
import type { GithubWire } from "./wire.ts";

/**
 * One GitHub App on one GitHub: its key signs a JWT, the JWT buys an installation token, the token does the work
 * (runner-contract §8). Key, JWT and tokens never leave this folder.
 *
 * Each failure has one answer: a JWT is refused: with GitHub's clock once more, then with the other key, and an alarm;
 * an installation is gone: found again once; a token is refused: another one is bought once; the pace is refused:
 * nobody calls before the time that GitHub names. What then still fails is the caller's to hear.
 */
export interface GithubApp {
  readonly id: string;
  /** `route` without its beginning: "POST /actions/runners/generate-jitconfig". */
  call(account: Account, route: string, parameters: Unknown, options?: CallOptions): Promise<Unknown>;
  /** With the App's own JWT: GET /app and the like. */
  callAsApp(route: string, parameters?: Unknown): Promise<Unknown>;
  /** GitHub's clock minus ours. */
  skewMs(): number;
}

export interface CallOptions {
  /** Default: what the method costs. A call that was given its turn already weighs nothing. */
  weight?: Weight;
}

export interface AppSettings {
  id: string;
  /** App id or client id. */
  appId: string;
  wire: GithubWire;
  /** The newest first; two while a key is being changed. */
  keys(): Promise<readonly AppKey[]>;
  installations: Installations;
  pace: Pace;
  /** Something that a person must look at: a key that GitHub does not take any more. */
  onAlarm(alarm: { code: string; message: string }): void;
  log: Log;
}

/** Tokens live for an hour; one that is about to die is not handed to a request that may take a while. */
const renewBeforeMs = 5 * 60_000;
/** A clock that was off may be set right between two calls, and is another one then. Each call but the first needs a change. */
const clocksMax = 4;

interface Token {
  text: string;
  expiresAtMs: number;
}

export function createGithubApp(settings: AppSettings): GithubApp {
  const { id, appId, wire, installations, pace, log } = settings;
  const tokens = new Map<string, Token>();
  const buying = new Map<string, Promise<Token>>();
  /** The key that worked last, while two are active. */
  let preferred: string | undefined;
  const githubNowMs = (): number => Date.now() + wire.skewMs();

  async function keysInOrder(): Promise<readonly AppKey[]> {
    const keys = await settings.keys();
    if (keys.length === 0) throw new MigError("secret_unavailable", `the GitHub App ${id} has no key`);
    return [...keys].sort(
      (a, b) => Number(b.fingerprint === preferred) - Number(a.fingerprint === preferred),
    );
  }

  async function callAsApp(route: string, parameters: Unknown = {}): Promise<Unknown> {
    const keys = await keysInOrder();
    let refused: MigError | undefined;
    for (const key of keys) {
      for (let clock = 0; clock < clocksMax; clock += 1) {
        const skewBefore = wire.skewMs();
        try {
          await pace.admit("light");
          const answer = await wire.send(route, parameters, await signJwt(appId, key, githubNowMs()));
          if (preferred !== key.fingerprint && keys.length > 1 && refused !== undefined) tellOfKey(key);
          preferred = key.fingerprint;
          return answer;
        } catch (error) {
          if (!(error instanceof MigError) || error.code !== "github_unauthorized") throw error;
          refused = error;
          // A clock that is off by less is not why a JWT that has nine minutes is refused.
          if (Math.abs(wire.skewMs() - skewBefore) < 20_000) break;
          log.warn(
            { app: id, skew_ms: wire.skewMs() },
            "GitHub's clock is another one; asked again with its time",
          );
        }
      }
    }
    settings.onAlarm({
      code: "github_key_refused",
      message: `GitHub takes no key of the App ${id}: ${refused?.message ?? ""}`,
    });
    throw refused;
  }

  function tellOfKey(key: AppKey): void {
    settings.onAlarm({
      code: "github_key_refused",
      message: `GitHub refuses a key of the App ${id} and takes ${key.fingerprint}: retire the other one, or correct it`,
    });
  }

  /** One purchase for all who wait: a thousand VMs that boot together must not buy a thousand tokens. */
  function tokenFor(account: Account): Promise<Token> {
    const known = tokens.get(account.name);
    if (known !== undefined && known.expiresAtMs - renewBeforeMs > githubNowMs())
      return Promise.resolve(known);
    const underWay = buying.get(account.name);
    if (underWay !== undefined) return underWay;
    const purchase = buyToken(account).finally(() => buying.delete(account.name));
    buying.set(account.name, purchase);
    return purchase;
  }

  async function buyToken(account: Account, isSecondTry = false): Promise<Token> {
    const installation = await installations.find(account, () => resolveInstallation(account));
    let answer: Unknown;
    try {
      answer = await callAsApp("POST /app/installations/{installation_id}/access_tokens", {
        installation_id: installation,
        permissions: account.permissions,
      });
    } catch (error) {
      const isGone = error instanceof MigError && error.code === "github_not_installed";
      if (!isGone || isSecondTry) throw error;
      // Installed again since: it has another number now.
      await installations.forget(account);
      return buyToken(account, true);
    }
    const text = readText(answer, "token");
    const expiresAtMs = readTimeMs(answer, "expires_at");
    // No fixed length: tokens have become longer (runner-contract §8.2). A blank or a line end would forge headers.
    if (text === undefined || !/^[\x21-\x7e]{1,4096}$/.test(text) || expiresAtMs === undefined)
      throw new MigError(
        "github_unavailable",
        "GitHub's installation token came without token or expires_at",
      );
    if (expiresAtMs - githubNowMs() < 60_000)
      throw new MigError("github_unavailable", "GitHub's installation token came expired");
    const token = { text, expiresAtMs };
    tokens.set(account.name, token);
    return token;
  }

  async function resolveInstallation(account: Account): Promise<number> {
    const answer = await callAsApp(`GET ${account.base}/installation`, account.parameters);
    if (answer["suspended_at"] !== undefined && answer["suspended_at"] !== null)
      throw new MigError(
        "github_forbidden",
        `the GitHub App ${id} is suspended for ${account.name}; an owner can lift that in the organization's settings`,
      );
    const found = readNumber(answer, "id");
    if (found === undefined || !Number.isSafeInteger(found))
      throw new MigError("github_unavailable", `GitHub's installation of ${account.name} came without an id`);
    return found;
  }

  return {
    id,
    callAsApp,
    skewMs: () => wire.skewMs(),
    async call(account, route, parameters, { weight } = {}) {
      const [method = "GET", path = ""] = route.split(" ");
      const whole = `${method} ${account.base}${path}`;
      const send = async (token: Token): Promise<Unknown> => {
        await pace.admit(weight ?? (method === "GET" ? "light" : "heavy"));
        return wire.send(whole, { ...account.parameters, ...parameters }, token.text);
      };
      const token = await tokenFor(account);
      try {
        return await send(token);
      } catch (error) {
        if (!(error instanceof MigError) || error.code !== "github_unauthorized") throw error;
        // Revoked before its time. Whoever noticed first buys another one, once.
        if (tokens.get(account.name) === token) tokens.delete(account.name);
        return send(await tokenFor(account));
      }
    },
  };
}
