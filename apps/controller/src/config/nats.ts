import { readFileSync } from "node:fs";
import { maybe, NATS_PREFIX_PATTERN } from "@mig/protocol";
import type { Secret } from "./secret.ts";
import { readSecretFile } from "./secret-file.ts";
import type { SettingName } from "./settings.ts";
import { isLoopback, type Values } from "./values.ts";

/** The channel over NATS. */
export interface NatsConfig {
  readonly urls: readonly string[];
  /** As agents reach them. */
  readonly agentUrls: readonly string[];
  /** A .creds file's content, `user:password`, or a token. */
  readonly credentials?: Secret;
  /** PEM. */
  readonly ca?: string;
  readonly prefix: string;
  /** Undefined: VMs bring what credentials they have, and NATS tells them apart or does not. */
  readonly accountSeed?: Secret;
  readonly account?: string;
  readonly replicas: number;
}

const companions = [
  "nats.agent_url",
  "nats.credentials_file",
  "nats.ca_file",
  "nats.account_seed_file",
  "nats.account",
] as const;

export function readNats(values: Values, isPlainAllowed: boolean): NatsConfig | undefined {
  const urls = readUrls(values, "nats.url", isPlainAllowed);
  const agentUrls = readUrls(values, "nats.agent_url", isPlainAllowed);
  const credentials = readSecretFile(values, "nats.credentials_file");
  const ca = readCa(values);
  const prefix = values.text("nats.prefix") ?? "mig";
  const accountSeed = readSecretFile(values, "nats.account_seed_file");
  const account = values.text("nats.account");
  const replicas = values.count("nats.replicas") ?? 1;
  if (!values.isWritten("nats.url")) {
    const lonely = companions.find((name) => values.isWritten(name));
    if (lonely !== undefined) values.problems.push({ message: `${lonely} needs nats.url beside it` });
    return undefined;
  }
  if (!new RegExp(NATS_PREFIX_PATTERN).test(prefix))
    values.refuse("nats.prefix", "is one word of small letters, digits and -, which begins with a letter");
  if (accountSeed !== undefined && !/^SA[A-Z2-7]{56}$/.test(accountSeed.reveal()))
    values.refuse("nats.account_seed_file", "must hold the seed of an account: SA and 56 characters");
  if (account !== undefined && !/^A[A-Z2-7]{55}$/.test(account))
    values.refuse("nats.account", "is the public key of an account: A and 55 characters");
  if (account !== undefined && !values.isWritten("nats.account_seed_file"))
    values.refuse("nats.account", "goes with nats.account_seed_file");
  if (replicas > 5) values.refuse("nats.replicas", "is at most 5");
  return {
    urls,
    agentUrls: agentUrls.length === 0 ? urls : agentUrls,
    ...maybe("credentials", credentials),
    ...maybe("ca", ca),
    prefix,
    ...maybe("accountSeed", accountSeed),
    ...maybe("account", account),
    replicas,
  };
}

function readUrls(values: Values, name: SettingName, isPlainAllowed: boolean): string[] {
  return values.list(name).map((text) => {
    const url = URL.parse(text);
    if (url === null || !/^(?:nats|tls):$/.test(url.protocol))
      values.refuse(name, "must be a URL that begins with tls:// or nats://");
    else if (url.username !== "" || url.password !== "")
      values.refuse(name, "must not hold credentials; nats.credentials_file names a file for them");
    else if (url.protocol === "nats:" && !isLoopback(url.hostname) && !isPlainAllowed)
      values.refuse(name, "must begin with tls:// unless it is this machine or insecure_plaintext is set");
    return text;
  });
}

function readCa(values: Values): string | undefined {
  const path = values.text("nats.ca_file");
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    values.refuse(
      "nats.ca_file",
      `cannot be read: ${(error as NodeJS.ErrnoException).code ?? "unknown error"}`,
    );
    return undefined;
  }
}
