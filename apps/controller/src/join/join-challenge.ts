import { createHash } from "node:crypto";

/**
 * What a cloud signs for one join: the controller's nonce and the VM's key (its RFC 7638 thumbprint). A proof that
 * somebody passes on is good for no other key, and none is good twice. On GCP it is the token's audience, on AWS the
 * signed header x-mig-challenge.
 */
export function joinChallenge(nonce: string, keyThumbprint: string): string {
  return `mig-join:${createHash("sha256").update(`${nonce}.${keyThumbprint}`).digest("base64url")}`;
}
