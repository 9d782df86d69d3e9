import { randomBytes } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import {
  calculateJwkThumbprint,
  EmbeddedJWK,
  errors,
  type JWTHeaderParameters,
  jwtVerify,
  SignJWT,
} from "jose";
import type { SigningKeys } from "./signing-keys.ts";

/**
 * What a VM shows with each request: an ES256 JWT (RFC 7519, RFC 9068's form) of 15 minutes, which names the VM, its
 * pool and organization, the epoch of its identity and the thumbprint of the key that renews it (RFC 7800 `cnf.jkt`).
 */
export interface VmClaims {
  readonly vmId: string;
  readonly poolId: string;
  readonly orgId: string;
  /** Counted up to revoke: older tokens are good for nothing. */
  readonly epoch: number;
  readonly keyThumbprint: string;
}

export interface VmToken extends VmClaims {
  /** The key that signed it. */
  readonly keyId: string;
  readonly expiresAtMs: number;
}

export const vmTokenMs = 15 * 60_000;
const nonceMs = 60_000;
const issuer = "mig-controller";
const audience = "mig-agent";
export const vmTokenType = "vm+jwt";
const nonceType = "mig-nonce+jwt";
const proofType = "mig-proof+jwt";
/** Clocks of replicas. A VM's own clock is never asked. */
const skewS = 5;

export class VmTokens {
  readonly #keys: SigningKeys;
  readonly #lifeMs: number;

  constructor(keys: SigningKeys, lifeMs = vmTokenMs) {
    this.#keys = keys;
    this.#lifeMs = lifeMs;
  }

  async sign(claims: VmClaims, nowMs: number): Promise<{ text: string; expiresInMs: number }> {
    const { kid, key } = this.#keys.signer(nowMs);
    const text = await new SignJWT({
      org: claims.orgId,
      pool: claims.poolId,
      ep: claims.epoch,
      cnf: { jkt: claims.keyThumbprint },
      jti: randomBytes(9).toString("base64url"),
    })
      .setProtectedHeader({ alg: "ES256", typ: vmTokenType, kid })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(claims.vmId)
      .setIssuedAt(Math.floor(nowMs / 1000))
      .setExpirationTime(Math.floor((nowMs + this.#lifeMs) / 1000))
      .sign(key);
    return { text, expiresInMs: this.#lifeMs };
  }

  /** Whether the key that signed a token, which was good a moment ago, is still one of ours: it may have leaked. */
  isStillSigned({ keyId }: VmToken): boolean {
    return this.#keys.isHeld(keyId);
  }

  /** Throws `unauthenticated`. Whether the identity still stands is for the caller to ask. */
  async verify(text: string): Promise<VmToken> {
    const { payload, protectedHeader } = await this.#verify(text, vmTokenType, "the VM's token");
    const { sub, org, pool, ep, cnf, exp } = payload as Record<string, unknown>;
    const jkt = typeof cnf === "object" && cnf !== null && "jkt" in cnf ? cnf.jkt : undefined;
    if (
      typeof sub !== "string" ||
      typeof org !== "string" ||
      typeof pool !== "string" ||
      typeof ep !== "number" ||
      typeof exp !== "number" ||
      typeof jkt !== "string"
    )
      throw new MigError("unauthenticated", "the VM's token lacks a claim; join again");
    return {
      vmId: sub,
      orgId: org,
      poolId: pool,
      epoch: ep,
      keyThumbprint: jkt,
      expiresAtMs: exp * 1000,
      keyId: protectedHeader.kid ?? "",
    };
  }

  /** Good for a minute and for one use. Nothing is stored until it is used, so anybody may have as many as they like. */
  async nonce(nowMs: number): Promise<{ text: string; expiresInMs: number }> {
    const { kid, key } = this.#keys.signer(nowMs);
    const text = await new SignJWT({ jti: randomBytes(16).toString("base64url") })
      .setProtectedHeader({ alg: "ES256", typ: nonceType, kid })
      .setIssuer(issuer)
      .setAudience(audience)
      .setExpirationTime(Math.floor((nowMs + nonceMs) / 1000))
      .sign(key);
    return { text, expiresInMs: nonceMs };
  }

  async readNonce(text: string): Promise<{ id: string; expiresAtMs: number }> {
    const { payload } = await this.#verify(text, nonceType, "the nonce");
    if (payload.jti === undefined || payload.exp === undefined)
      throw new MigError("unauthenticated", "the nonce lacks a claim; POST /api/v1/join/nonce gives one");
    return { id: payload.jti, expiresAtMs: payload.exp * 1000 };
  }

  async #verify(text: string, typ: string, what: string) {
    try {
      return await jwtVerify(text, (header) => this.#keyOf(header), {
        algorithms: ["ES256"],
        issuer,
        audience,
        typ,
        clockTolerance: skewS,
        requiredClaims: ["exp"],
      });
    } catch (error) {
      if (error instanceof errors.JWTExpired)
        throw new MigError("unauthenticated", `${what} has expired; ask for another one`, { cause: error });
      // Of our own: the key is not known, or it could not be looked for, which is no fault of the token.
      if (error instanceof MigError) throw error;
      if (error instanceof errors.JOSEError || error instanceof TypeError)
        throw new MigError("unauthenticated", `${what} is not one of this controller`, { cause: error });
      throw error;
    }
  }

  async #keyOf({ kid }: JWTHeaderParameters) {
    const key = kid === undefined ? undefined : await this.#keys.verifier(kid);
    if (key === undefined)
      throw new MigError("unauthenticated", "it is signed with a key that is not known here");
    return key;
  }
}

export interface KeyProof {
  /** RFC 7638, SHA-256. */
  readonly thumbprint: string;
  readonly publicJwk: Readonly<Record<string, string>>;
}

/**
 * That the caller holds a private key: a JWS by that key over our nonce and the VM's name, with the public key in its
 * header (as RFC 9449 does). The nonce bounds its age, so the VM's clock does not matter.
 */
export async function verifyKeyProof(
  text: string,
  expected: { nonce: string; vmId: string },
): Promise<KeyProof> {
  try {
    const { payload, protectedHeader } = await jwtVerify(text, EmbeddedJWK, {
      algorithms: ["ES256"],
      typ: proofType,
      currentDate: new Date(0),
    });
    if (payload["nonce"] !== expected.nonce)
      throw new MigError("unauthenticated", "the proof is over another nonce");
    if (payload["vm_id"] !== expected.vmId)
      throw new MigError("unauthenticated", "the proof is for another VM");
    const { kty, crv, x, y } = protectedHeader.jwk ?? {};
    if (kty !== "EC" || crv !== "P-256" || x === undefined || y === undefined)
      throw new MigError("unauthenticated", "the proof's key is not on P-256");
    const publicJwk = { kty, crv, x, y };
    return { publicJwk, thumbprint: await calculateJwkThumbprint(publicJwk) };
  } catch (error) {
    if (error instanceof MigError) throw error;
    throw new MigError("unauthenticated", "key_proof is not a JWS by the VM's key over the nonce", {
      cause: error,
    });
  }
}
