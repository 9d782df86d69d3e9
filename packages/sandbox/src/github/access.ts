/** Who may call what: App JWTs, installation tokens, and the tokens that runners register with (runner-contract §8.2). */
import { createPublicKey, createVerify, type KeyObject, randomBytes } from "node:crypto";
import type { GithubClock } from "./clock.ts";
import { type Call, isRecord, Refusal } from "./http.ts";
import type { Installs } from "./installs.ts";
import type { GithubOptions } from "./types.ts";

interface InstallationToken {
  readonly installationId: number;
  readonly permissions: Readonly<Record<string, unknown>>;
  readonly expiresMs: number;
}

interface RunnerToken {
  readonly kind: "registration" | "remove";
  readonly scope: string;
  readonly expiresMs: number;
}

const suspended = "This installation has been suspended";

export class Access {
  readonly appId: number;
  readonly clientId: string;
  readonly #key: KeyObject | null;
  readonly #installs: Installs;
  readonly #clock: GithubClock;
  readonly #installationTokenMs: number;
  readonly #runnerTokenMs: number;
  readonly #installationTokens = new Map<string, InstallationToken>();
  readonly #runnerTokens = new Map<string, RunnerToken>();

  constructor(options: GithubOptions, installs: Installs, clock: GithubClock) {
    this.appId = options.appId ?? 1234;
    this.clientId = options.clientId ?? `Iv23stand-in${this.appId}`;
    const pem = options.publicKeyPem ?? options.privateKeyPem;
    this.#key = pem === undefined ? null : createPublicKey(pem);
    this.#installs = installs;
    this.#clock = clock;
    this.#installationTokenMs = options.installationTokenMs ?? 3_600_000;
    this.#runnerTokenMs = options.registrationTokenMs ?? 3_600_000;
  }

  /** Who GitHub counts the call for: the App itself, or one of its installations. */
  actorOf(authorization: string): string | undefined {
    const [word = "", token = ""] = authorization.split(" ");
    if (!/^(bearer|token)$/i.test(word)) return undefined;
    const known = this.#installationTokens.get(token);
    if (known) return `installation ${known.installationId}`;
    return token.split(".").length === 3 ? "app" : undefined;
  }

  requireApp(call: Call): void {
    const [word, token = ""] = call.authorization.split(" ");
    // GitHub accepts the word "token" for its own tokens only, not for JWTs.
    if (word?.toLowerCase() !== "bearer") throw new Refusal(401, "A JSON web token could not be decoded");
    const [header, payload, signature] = token.split(".");
    const head = parsePart(header);
    const claims = parsePart(payload);
    if (!head || !claims || !header || !payload || !signature || head["alg"] !== "RS256") {
      throw new Refusal(401, "A JSON web token could not be decoded");
    }
    const signed = createVerify("RSA-SHA256").update(`${header}.${payload}`);
    if (this.#key && !signed.verify(this.#key, signature, "base64url")) {
      throw new Refusal(401, "A JSON web token could not be decoded");
    }
    this.#checkClaims(claims);
  }

  #checkClaims(claims: Readonly<Record<string, unknown>>): void {
    const { iat, exp, iss } = claims;
    const now = this.#clock.nowMs() / 1000;
    if (!Number.isInteger(iat) || Number(iat) > now) {
      throw new Refusal(
        401,
        "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
      );
    }
    if (typeof exp !== "number" || exp <= now) {
      throw new Refusal(
        401,
        "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
      );
    }
    if (exp > now + 600) {
      throw new Refusal(401, "'Expiration time' claim ('exp') is too far in the future");
    }
    if (String(iss) !== String(this.appId) && iss !== this.clientId) {
      throw new Refusal(404, "Integration not found");
    }
  }

  createInstallationToken(installationId: number, wanted: unknown) {
    const installation = this.#installs.byId(installationId);
    if (!installation) throw new Refusal(404, "Not Found");
    if (installation.suspendedAtMs !== null) throw new Refusal(403, suspended);
    const { granted } = this.#installs;
    const permissions = isRecord(wanted) ? wanted : granted;
    for (const [name, level] of Object.entries(permissions)) {
      const most = Object.entries(granted).find(([known]) => known === name)?.[1];
      if (most === undefined || (most === "read" && level !== "read")) {
        throw new Refusal(422, "The permissions requested are not granted to this installation.");
      }
    }
    // Longer than the classic 40 characters on purpose: callers must treat it as opaque text.
    const token = `ghs_${this.appId}_${randomBytes(96).toString("base64url")}`;
    const expiresMs = Date.now() + this.#installationTokenMs;
    this.#installationTokens.set(token, { installationId, permissions, expiresMs });
    return { token, expires_at: this.#clock.iso(expiresMs), permissions, repository_selection: "all" };
  }

  /** Lets an installation token of the owner through that has the permission for runners or for jobs. */
  requireInstallation(
    call: Call,
    scope: string,
    resource: "runners" | "actions",
    level: "read" | "write",
  ): void {
    const [word = "", token = ""] = call.authorization.split(" ");
    const known = /^(bearer|token)$/i.test(word) ? this.#installationTokens.get(token) : undefined;
    if (!known || known.expiresMs <= Date.now()) throw new Refusal(401, "Bad credentials");
    // GitHub hides what a token may not see behind 404.
    const installation = this.#installs.of(scope.split("/")[0] ?? "");
    if (installation?.id !== known.installationId) throw new Refusal(404, "Not Found");
    if (installation.suspendedAtMs !== null) throw new Refusal(403, suspended);
    const runners = scope.includes("/") ? "administration" : "organization_self_hosted_runners";
    const permission = resource === "runners" ? runners : "actions";
    const has = known.permissions[permission];
    if (has === "write" || (level === "read" && has === "read")) return;
    const accepted = { "x-accepted-github-permissions": `${permission}=${level}` };
    throw new Refusal(403, "Resource not accessible by integration", {}, accepted);
  }

  createRunnerToken(kind: RunnerToken["kind"], scope: string) {
    const token = `A${randomBytes(18).toString("hex").toUpperCase().slice(0, 28)}`;
    const expiresMs = Date.now() + this.#runnerTokenMs;
    this.#runnerTokens.set(token, { kind, scope, expiresMs });
    return { token, expires_at: new Date(expiresMs + this.#clock.skewMs).toISOString() };
  }

  /** The scope that a `RemoteAuth` token is for. Expired and foreign ones look like 404 (runner-contract §2.7). */
  requireRunnerToken(call: Call, kind?: RunnerToken["kind"]): string {
    const [word = "", token = ""] = call.authorization.split(" ");
    const known = word === "RemoteAuth" ? this.#runnerTokens.get(token) : undefined;
    if (!known || known.expiresMs <= Date.now() || (kind && known.kind !== kind)) {
      throw new Refusal(404, "Not Found");
    }
    return known.scope;
  }
}

function parsePart(part: string | undefined): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(part ?? "", "base64url").toString("utf8"));
    return isRecord(value) ? value : null;
  } catch {
    return null;
  }
}
