import { resolve } from "node:path";
import { maybe } from "@mig/protocol";
import type { AppConfig } from "./apps.ts";
import type { Mode } from "./config.ts";
import type { Invocation } from "./env.ts";
import type { SettingName } from "./settings.ts";
import { problemOfUrl, type Values } from "./values.ts";

/** Where secrets are. The shapes are those that `secrets/open-secrets.ts` takes. */
export interface SecretConfig {
  /** A reference; undefined = the file below the data directory (master-key.ts). */
  masterKey?: string;
  env: { isAllowed: boolean; values: Record<string, string | undefined> };
  vault?: {
    address: string;
    namespace?: string;
    caFile?: string;
    login: { method: "token"; token: string } | { method: "kubernetes"; role: string; mount?: string };
  };
  gcp: { endpoint?: string; keyFile?: string };
  aws: { region?: string; endpoint?: string };
  kubernetes: { api?: string; tokenFile?: string; caFile?: string };
}

const optional = [
  "secrets.vault.namespace",
  "secrets.vault.token",
  "secrets.vault.role",
  "secrets.vault.auth_mount",
  "secrets.vault.ca_file",
] as const;

export function readSecretSettings(
  values: Values,
  { environment }: Invocation,
  mode: Mode,
  apps: readonly AppConfig[],
): SecretConfig {
  const url = (name: SettingName): string | undefined => {
    const text = values.text(name)?.replace(/\/+$/, "");
    const problem = text === undefined ? undefined : problemOfUrl(text);
    if (problem !== undefined) values.refuse(name, problem);
    return text;
  };
  const path = (name: SettingName): string | undefined => {
    const text = values.text(name);
    return text === undefined ? undefined : resolve(text);
  };
  const reference = (name: SettingName): string | undefined => {
    const text = values.text(name);
    if (text === undefined || /^[a-z0-9-]+:\/\/./i.test(text)) return text;
    // Who writes the secret itself here must not find it in a log.
    values.problems.push({
      message: `${name} is no reference to a secret; it is one like file:///etc/mig/secret, and never the secret itself`,
    });
    return undefined;
  };
  const masterKey = reference("secrets.master_key");
  const vault = readVault(values, url, path, reference);
  const token = vault?.login.method === "token" ? [vault.login.token] : [];
  const references = [...apps.flatMap(({ key, previousKey }) => [key, previousKey]), masterKey, ...token];
  const named = references.flatMap((text) => /^env:\/\/(.+)$/i.exec(text ?? "")?.[1] ?? []);
  return {
    ...maybe("masterKey", masterKey),
    env: {
      isAllowed: values.switch("secrets.allow_env") || mode !== "normal",
      values: Object.fromEntries(named.map((name) => [name, environment[name]])),
    },
    ...maybe("vault", vault),
    gcp: {
      ...maybe("endpoint", url("secrets.gcp.endpoint")),
      ...maybe("keyFile", path("secrets.gcp.key_file")),
    },
    aws: {
      ...maybe("region", values.text("secrets.aws.region")),
      ...maybe("endpoint", url("secrets.aws.endpoint")),
    },
    kubernetes: {
      ...maybe("api", url("secrets.kubernetes.api")),
      ...maybe("tokenFile", path("secrets.kubernetes.token_file")),
      ...maybe("caFile", path("secrets.kubernetes.ca_file")),
    },
  };
}

function readVault(
  values: Values,
  url: (name: SettingName) => string | undefined,
  path: (name: SettingName) => string | undefined,
  reference: (name: SettingName) => string | undefined,
): SecretConfig["vault"] {
  const address = url("secrets.vault.address");
  const token = reference("secrets.vault.token");
  const role = values.text("secrets.vault.role");
  const namespace = values.text("secrets.vault.namespace");
  const mount = values.text("secrets.vault.auth_mount");
  const caFile = path("secrets.vault.ca_file");
  if (address === undefined) {
    const lonely = optional.find((name) => values.isWritten(name));
    if (lonely !== undefined)
      values.problems.push({ message: `${lonely} needs secrets.vault.address beside it` });
    return undefined;
  }
  const where = { address, ...maybe("namespace", namespace), ...maybe("caFile", caFile) };
  if (token !== undefined && role !== undefined)
    values.refuse("secrets.vault.role", "excludes secrets.vault.token; choose one way to log in");
  if (role !== undefined)
    return { ...where, login: { method: "kubernetes", role, ...maybe("mount", mount) } };
  if (mount !== undefined) values.refuse("secrets.vault.auth_mount", "goes with secrets.vault.role");
  if (token !== undefined) return { ...where, login: { method: "token", token } };
  if (!values.isWritten("secrets.vault.token"))
    values.refuse(
      "secrets.vault.token",
      "or secrets.vault.role says how to log in to Vault, as in file:///run/vault/token",
    );
  return undefined;
}
