import type { X509Certificate } from "node:crypto";

/** What a client's certificate says, after the TLS connection has verified it against tls.client_ca_file. */
export interface PeerCertificate {
  /** As in "CN=vm-1, OU=runners". */
  readonly subject: string;
  readonly commonName: string | undefined;
  readonly dns: readonly string[];
  readonly uris: readonly string[];
  /** SHA-256 of the public key: a renewed certificate of the same key is the same machine. */
  readonly keyDigest: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** `keyDigest` comes from the caller, who has the crypto at hand; the rest is read here. */
export function readPeerCertificate(
  { subject, subjectAltName, validFrom, validTo }: X509Certificate,
  keyDigest: string,
): PeerCertificate {
  const parts = (subject ?? "").split("\n");
  const names = parts.filter((part) => part.startsWith("CN="));
  // Node puts a name that holds a comma or a quote into quotes. No such name is one of ours; what is inside of it must
  // not be taken for names of its own.
  const alternatives = (subjectAltName ?? "").replaceAll(/"(?:[^"\\]|\\.)*"/g, "").split(", ");
  const those = (kind: string): string[] =>
    alternatives.flatMap((one) =>
      one.startsWith(kind) && one.length > kind.length ? [one.slice(kind.length)] : [],
    );
  return {
    subject: parts.join(", "),
    // Two of them say two things; then it says none.
    commonName: names.length === 1 ? names[0]?.slice(3) : undefined,
    dns: those("DNS:"),
    uris: those("URI:"),
    keyDigest,
    notBeforeMs: Date.parse(validFrom),
    notAfterMs: Date.parse(validTo),
  };
}
