import { readFile } from "node:fs/promises";
import { MigError } from "@mig/lifecycle";
import { type NatsPeer, readNumber, readText, readTexts } from "@mig/protocol";
import {
  type Authenticator,
  credsAuthenticator,
  jwtAuthenticator,
  nkeys,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import type { HttpCalls } from "./http-calls.ts";

export interface NatsSettings {
  /** nats.url; without it the controller tells where NATS is. */
  readonly urls?: readonly string[] | undefined;
  /** nats.credentials_file; without it the controller gives this VM credentials of its own. */
  readonly credentialsPath?: string | undefined;
  /** nats.prefix; what the controller says counts more. */
  readonly prefix: string;
}

/** Where NATS is, and as whom this VM comes there. */
export interface NatsAccess {
  readonly urls: readonly string[];
  readonly prefix: string;
  readonly peer: NatsPeer;
  readonly authenticator: Authenticator | undefined;
  /** The server ends the connection then. */
  readonly expiresInMs: number | undefined;
}

/** Asked before each connection. The key is made here and never leaves the VM; what travels is good only with it. */
export async function findNatsAccess(
  settings: NatsSettings,
  vmId: string,
  http: HttpCalls | undefined,
): Promise<NatsAccess> {
  const { urls, credentialsPath, prefix } = settings;
  if (credentialsPath !== undefined && urls !== undefined)
    return {
      urls,
      prefix,
      peer: { vmId, identityEpoch: 0 },
      authenticator: await readAuthenticator(credentialsPath),
      expiresInMs: undefined,
    };
  if (http === undefined)
    throw new MigError(
      "settings_invalid",
      "The channel nats needs controller.endpoint, or nats.url with nats.credentials_file.",
    );
  const key = nkeys.createUser();
  const offer = await http.requestNatsAccess(key.getPublicKey());
  const jwt = readText(offer, "jwt");
  return {
    urls: urls ?? readTexts(offer, "servers") ?? [],
    prefix: readText(offer, "prefix") ?? prefix,
    peer: { vmId, identityEpoch: readNumber(offer, "identity_epoch") ?? 0 },
    authenticator: jwt === undefined ? undefined : jwtAuthenticator(jwt, key.getSeed()),
    expiresInMs: readNumber(offer, "expires_in_ms"),
  };
}

async function readAuthenticator(path: string): Promise<Authenticator> {
  let text: string;
  try {
    text = (await readFile(path, "utf8")).trim();
  } catch (cause) {
    throw new MigError("settings_invalid", `The file ${path} cannot be read: check nats.credentials_file.`, {
      cause,
    });
  }
  if (text.includes("BEGIN NATS USER JWT")) return credsAuthenticator(Buffer.from(`${text}\n`));
  const colon = text.indexOf(":");
  if (colon < 0) return tokenAuthenticator(text);
  return usernamePasswordAuthenticator(text.slice(0, colon), text.slice(colon + 1));
}
