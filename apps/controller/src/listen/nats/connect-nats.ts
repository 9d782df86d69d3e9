import {
  type Authenticator,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type NatsConnection,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import type { NatsConfig } from "../../config/nats.ts";

const connectMs = 5_000;
const reconnectMs = 1_000;

/** Once it is there it stays: it comes back by itself after whatever befalls the servers. */
export function connectNats({ urls, credentials, ca }: NatsConfig): Promise<NatsConnection> {
  const options: ConnectionOptions = {
    servers: urls.map((url) => new URL(url).host),
    name: "mig-controller",
    timeout: connectMs,
    maxReconnectAttempts: -1,
    reconnectTimeWait: reconnectMs,
    ignoreAuthErrorAbort: true,
    ...(credentials === undefined ? {} : { authenticator: authenticatorOf(credentials.reveal()) }),
    ...(urls.some((url) => url.startsWith("tls:")) ? { tls: ca === undefined ? {} : { ca } } : {}),
  };
  return connect(options);
}

function authenticatorOf(text: string): Authenticator {
  if (text.includes("BEGIN NATS USER JWT")) return credsAuthenticator(Buffer.from(`${text}\n`));
  const colon = text.indexOf(":");
  if (colon < 0) return tokenAuthenticator(text);
  return usernamePasswordAuthenticator(text.slice(0, colon), text.slice(colon + 1));
}
