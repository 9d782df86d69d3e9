import { constants } from "node:crypto";
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket, type TlsOptions } from "node:tls";
import type { Log } from "@mig/kit";
import type { TlsConfig, TlsMaterial } from "../../config/tls-material.ts";
import { refuseBeforeTls } from "./refuse-before-tls.ts";

export interface TlsEdge {
  /**
   * What a door does with a socket that has said nothing yet: the handshake, and then `use` with what is decrypted.
   * Without a handshake in time, or with a certificate that is refused, it is closed.
   */
  into(use: (secured: TLSSocket) => void): (socket: Socket) => void;
  /** What new connections see from now on; those that are open keep what they have agreed on. */
  serve(material: TlsMaterial): void;
}

export interface TlsEdgeSettings {
  /** What is served first. */
  material: TlsMaterial;
  handshakeMs: number;
  log: Log;
}

/** For TLS 1.2: forward secrecy and authenticated encryption, nothing else. TLS 1.3 has only such. */
const ciphers = [
  ...["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"],
  ...["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"],
  ...["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"],
  ...["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"],
].join(":");
/** The first one resists quantum computers, where the OpenSSL at hand knows it; the small finite fields are left out. */
const groups = "?X25519MLKEM768:X25519:P-256:P-384";

/** TLS without a port of its own: the doors hand it sockets that they have just accepted. */
export function createTlsEdge(config: TlsConfig, { material, handshakeMs, log }: TlsEdgeSettings): TlsEdge {
  const rules: TlsOptions = {
    minVersion: config.minVersion,
    ciphers,
    honorCipherOrder: true,
    // A client that renegotiates makes the server work for nothing; TLS 1.3 does not know it any more.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    ecdhCurve: groups,
    // The order is ours: who can speak both (curl, browsers) wants the HTTP API; gRPC clients offer h2 alone.
    ALPNProtocols: ["http/1.1", "h2"],
    handshakeTimeout: handshakeMs,
    requestCert: config.clientCerts !== "off",
    rejectUnauthorized: config.clientCerts === "required",
  };
  const optionsWith = ({ cert, key, ca }: TlsMaterial): TlsOptions => ({
    ...rules,
    cert,
    key,
    ...(ca === undefined ? {} : { ca }),
  });
  // Each door has a server of its own, which is never bound: only so it is plain whose socket came through.
  const servers: Server[] = [];
  let current = optionsWith(material);

  return {
    into(use) {
      const server = createServer(current, (secured) => {
        secured.on("error", () => secured.destroy());
        // Optional means that there may be none, not that a wrong one is as good as a right one.
        if (config.clientCerts === "optional" && !secured.authorized && hasCertificate(secured)) {
          const { remoteAddress, authorizationError } = secured;
          log.debug({ remoteAddress, reason: authorizationError }, "a client certificate was refused");
          secured.destroy();
          return;
        }
        use(secured);
      });
      // Also when the time for the handshake is over: Node tells it and leaves the socket open.
      server.on("tlsClientError", (error, secured) => {
        log.debug({ remoteAddress: secured.remoteAddress, error }, "a TLS handshake failed");
        secured.destroy();
      });
      servers.push(server);
      return (socket) =>
        refuseBeforeTls(socket, handshakeMs, () => {
          server.emit("connection", socket);
        });
    },
    serve(material) {
      current = optionsWith(material);
      for (const server of servers) server.setSecureContext(current);
    },
  };
}

function hasCertificate(secured: TLSSocket): boolean {
  return secured.getPeerX509Certificate() !== undefined;
}
