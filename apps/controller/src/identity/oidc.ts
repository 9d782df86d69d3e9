import { MigError, type OperatorRole, operatorRoles } from "@mig/lifecycle";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import type { OidcConfig, OidcRoleRow } from "../config/oidc.ts";
import { OidcKeys } from "./oidc-keys.ts";
import { vmTokenType } from "./vm-token.ts";

/** Who an OpenID token is of, and what the rows of `oidc.roles` give them. */
export interface OidcOperator {
  readonly role: OperatorRole;
  /** Undefined: all organizations. */
  readonly orgs?: readonly string[];
  /** `oidc:EMAIL`, or `oidc:SUB` where the provider does not vouch for the e-mail address. */
  readonly name: string;
  readonly untilMs: number;
}

/** Asymmetric only: with HS256 the public key would be the secret. */
const algorithms = ["RS256", "ES256", "EdDSA"];
const skewS = 60;

/** Operators who bring a JWT of their OpenID provider (OpenID Connect Core §3.1.3.7, RFC 8725). */
export class OidcOperators {
  readonly #config: OidcConfig;
  readonly #keys: OidcKeys;
  readonly #nowMs: () => number;

  constructor(config: OidcConfig, nowMs: () => number = Date.now) {
    this.#config = config;
    this.#nowMs = nowMs;
    const { issuer, keysUrl } = config;
    this.#keys = new OidcKeys({ issuer, nowMs, ...(keysUrl === undefined ? {} : { keysUrl }) });
  }

  /** Throws `unauthenticated`, `forbidden` for somebody without a role, and `identity_unavailable`. */
  async find(text: string): Promise<OidcOperator> {
    const claims = await this.#verify(text);
    const { claim, roles, maxAgeMs } = this.#config;
    const row = chooseRole(valuesOf(claims, claim), roles);
    if (row === undefined)
      throw new MigError(
        "forbidden",
        `the token is good, but its claim ${claim} has no value that oidc.roles gives a role to`,
      );
    const expiresAtMs = (claims.exp ?? 0) * 1000;
    const { role, orgs } = row;
    return {
      role,
      ...(orgs === undefined ? {} : { orgs }),
      name: nameOf(claims),
      untilMs: Math.min(expiresAtMs, (claims.iat ?? 0) * 1000 + maxAgeMs),
    };
  }

  async #verify(text: string): Promise<JWTPayload> {
    const { issuer, audience, maxAgeMs } = this.#config;
    try {
      const { payload } = await jwtVerify(text, this.#keys.find, {
        algorithms,
        issuer,
        audience,
        clockTolerance: skewS,
        maxTokenAge: maxAgeMs / 1000,
        requiredClaims: ["exp", "iat", "sub"],
        currentDate: new Date(this.#nowMs()),
      });
      const { sub, aud } = payload;
      // Whoever else the token is for could show it here.
      if (Array.isArray(aud) && aud.length !== 1)
        throw new MigError("unauthenticated", "the token is for other audiences too; ask for one for MIG");
      if (typeof sub !== "string" || !/^[!-~]{1,255}$/.test(sub))
        throw new MigError("unauthenticated", "the token's sub is missing or not one word of visible ASCII");
      return payload;
    } catch (error) {
      if (error instanceof errors.JWTExpired)
        throw new MigError("unauthenticated", "the token has expired; get a new one from your provider", {
          cause: error,
        });
      // A key of the set that cannot be imported is a TypeError or a DOMException: the token is not proven.
      if (error instanceof MigError) throw error;
      const why = error instanceof errors.JOSEError ? error.message : "it does not fit its key";
      throw new MigError("unauthenticated", `the token is not a good one of ${issuer}: ${why}`, {
        cause: error,
      });
    }
  }
}

/**
 * Whether a JWT says of itself that it is one of our own for a VM. Only to choose who verifies it: whatever is said
 * here, it is believed by nobody.
 */
export function saysVmToken(text: string): boolean {
  try {
    return decodeProtectedHeader(text).typ === vmTokenType;
  } catch {
    return false;
  }
}

/** Of the rows that fit, the first with the highest role. */
export function chooseRole(values: readonly string[], rows: readonly OidcRoleRow[]): OidcRoleRow | undefined {
  const fitting = rows.filter(({ value }) => values.includes(value));
  return operatorRoles
    .toReversed()
    .map((role) => fitting.find((row) => row.role === role))
    .find((row) => row !== undefined);
}

/**
 * What a claim says: a text is one value. `realm_access.roles` is looked up by its whole name first, and then inside.
 * An e-mail address counts only when the provider vouches for it: in many of them anybody may write one down.
 */
function valuesOf(claims: JWTPayload, claim: string): string[] {
  if (claim === "email" && claims["email_verified"] !== true) return [];
  const found = Object.hasOwn(claims, claim) ? claims[claim] : lookInside(claims, claim.split("."));
  return (Array.isArray(found) ? found : [found]).filter((value) => typeof value === "string");
}

function lookInside(claims: Unknown, path: readonly string[]): unknown {
  let at: unknown = claims;
  for (const key of path) {
    const inside = asObject(at);
    at = inside !== undefined && Object.hasOwn(inside, key) ? inside[key] : undefined;
  }
  return at;
}

/** No space and no bracket, so that it is never taken for the name of an API key. */
function nameOf(claims: JWTPayload): string {
  const email = claims["email_verified"] === true ? readText(claims, "email") : undefined;
  const isPlain = email !== undefined && /^[\w.+%'-]{1,64}@[\w.-]{1,190}$/.test(email);
  return `oidc:${isPlain ? email : (claims.sub ?? "")}`;
}
