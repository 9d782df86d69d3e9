import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { type PeerCertificate, readPeerCertificate } from "../../identity/peer-certificate.ts";

/**
 * The verified certificate of the other end of a connection; undefined: it showed none. Only ever from the connection
 * itself: a header could be written by anybody.
 */
export function peerCertificateOf(socket: Socket): PeerCertificate | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  const spki = certificate.publicKey.export({ type: "spki", format: "der" });
  return readPeerCertificate(certificate, createHash("sha256").update(spki).digest("hex"));
}
