import { createHash, X509Certificate } from "node:crypto";
import { checkServerIdentity, type DetailedPeerCertificate, type PeerCertificate } from "node:tls";

/** What TLS asks when the chain is good; the answer is why the server is refused all the same. */
export type IdentityCheck = (host: string, shown: PeerCertificate) => Error | undefined;

/** Longer chains are nobody's. */
const chainMax = 10;

/**
 * The pin is SHA-256 of a certificate's public key (DER, SubjectPublicKeyInfo; RFC 7469 §2.4), as kubeadm and Teleport
 * have it: it outlives the renewal of a certificate with the same key. It narrows what is trusted and never widens it:
 * the chain and the name were verified before, or are here.
 */
export function checkWithPin(pin: string): IdentityCheck {
  const wanted = pin.replace(/^sha256:/, "").toLowerCase();
  return (host, shown) => {
    const problem = checkServerIdentity(host, shown);
    if (problem !== undefined) return problem;
    return hasPin(shown, wanted)
      ? undefined
      : Object.assign(new Error("no certificate of its chain has the pinned key"), {
          code: "CA_PIN_MISMATCH",
        });
  };
}

/**
 * Each certificate must have signed the one before: the runtime links what a server sends by names alone, and anybody
 * can send the pinned certificate along.
 */
function hasPin(shown: PeerCertificate, wanted: string): boolean {
  let next: Partial<DetailedPeerCertificate> | undefined = shown;
  let before: X509Certificate | undefined;
  for (let n = 0; n < chainMax && next?.raw !== undefined; n += 1) {
    const certificate = new X509Certificate(next.raw);
    if (before !== undefined && !before.verify(certificate.publicKey)) return false;
    const spki = certificate.publicKey.export({ type: "spki", format: "der" });
    if (createHash("sha256").update(spki).digest("hex") === wanted) return true;
    // The root is its own issuer.
    if (next.issuerCertificate === next) return false;
    before = certificate;
    next = next.issuerCertificate;
  }
  return false;
}
