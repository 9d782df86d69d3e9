import { isIP, connect as openTcp, type Socket } from "node:net";
import { connect as openTls } from "node:tls";
import { type TlsMaterial, tlsRules } from "./tls-material.ts";

/**
 * The connection of one stream. It is opened here and not by node:http2, so that there is something to destroy:
 * what a session does with its own socket when the peer is silent differs, and Bun keeps it open for ever.
 */
export function openSocket(url: URL, material: TlsMaterial, alpn: readonly string[] = ["h2"]): Socket {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isTls = url.protocol === "https:";
  const to = { host, port: Number(url.port) || (isTls ? 443 : 80) };
  if (!isTls) return openTcp(to);
  // An address is no name for SNI (RFC 6066 §3); the certificate is checked against it all the same.
  const name = isIP(host) === 0 ? { servername: host } : {};
  return openTls({ ...to, ...name, ALPNProtocols: [...alpn], ...material, ...tlsRules });
}
