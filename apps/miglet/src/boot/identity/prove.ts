import { createHash, sign } from "node:crypto";
import type { VmKey } from "./key.ts";

/**
 * That we hold the key: a compact JWS (RFC 7515) by it over the controller's nonce and our name, the public key in its
 * header. On node:crypto alone, because a library for it costs more memory than all that the agent does with it.
 */
export function proveKey(
  { privateKey, publicJwk }: VmKey,
  { nonce, vmId }: { readonly nonce: string; readonly vmId: string },
): string {
  const header = part({ alg: "ES256", typ: "mig-proof+jwt", jwk: publicJwk });
  const signed = `${header}.${part({ nonce, vm_id: vmId })}`;
  // JWS wants r and s side by side (RFC 7518 §3.4), not the ASN.1 that is usual elsewhere.
  const signature = sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}

/**
 * What a cloud signs for one join: the nonce and our key's thumbprint (RFC 7638), as the controller computes it
 * (apps/controller/src/join/join-challenge.ts). Whoever passes the cloud's signature on has another key.
 */
export function challengeOf({ publicJwk: { crv, kty, x, y } }: VmKey, nonce: string): string {
  const thumbprint = digest(JSON.stringify({ crv, kty, x, y }));
  return `mig-join:${digest(`${nonce}.${thumbprint}`)}`;
}

const digest = (text: string): string => createHash("sha256").update(text).digest("base64url");

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
