import { nearest } from "@mig/kit";
import { maybe } from "@mig/protocol";
import type { Problem } from "./env.ts";
import { Fields, readList } from "./fields.ts";

/** A GitHub App, as an operator writes it into the file or sends it to the API. Keys are references to secrets. */
export interface AppConfig {
  /** The operator's own name for it. */
  id: string;
  apiUrl: string;
  /** What GitHub knows it by: the client id (recommended, runner-contract §8.2) or the App's number. */
  issuer: string;
  key?: string;
  /** Tried when GitHub refuses `key`: the one before while a key is being changed, or the next one on trial. */
  previousKey?: string;
  /** A key that signs where it lies, in place of `key`. */
  signer?: string;
  installationId?: number;
  /** Writes a minute: at first and at most (github/pace.ts). */
  pace?: { start?: number; max?: number };
  /** The one App of `github.app_id`: it serves every pool, whatever address that has. */
  servesAll?: boolean;
}

export const appKeys = [
  "id",
  "api_url",
  "app_id",
  "client_id",
  "key",
  "previous_key",
  "signer",
  "installation_id",
  "pace",
] as const;

const paceKeys = ["start", "max"] as const;
/** GitHub allows 900 points a minute, five for a write; a server of one's own may have no limit. */
const perMinuteMost = 100_000;

export function readApps(content: unknown, source: string, apiUrl: string, problems: Problem[]): AppConfig[] {
  return readList(content, source, "{ id: acme, app_id: 123456, key: … }", problems, (item, where) =>
    readApp(item, where, apiUrl, problems),
  );
}

export function readApp(content: unknown, source: string, apiUrl: string, problems: Problem[]): AppConfig {
  const fields = new Fields(content, source, appKeys, problems);
  const id = fields.id("id");
  if (id === undefined) fields.refuse('.id is missing: your own name for the App, as in "acme"');
  const appId = fields.count("app_id", Number.MAX_SAFE_INTEGER);
  const clientId = fields.text("client_id");
  if (!fields.has("app_id") && clientId === undefined)
    fields.refuse(".app_id or .client_id is missing; GitHub shows both in the App's settings under About");
  if (clientId !== undefined && !/^[A-Za-z0-9._-]{4,64}$/.test(clientId))
    fields.refuse(".client_id is what GitHub shows as Client ID, as in Iv23liAbCdEfGhIjKlMn");
  const key = readReference(fields, "key", keySchemes);
  const previousKey = readReference(fields, "previous_key", keySchemes);
  const signer = readReference(fields, "signer", ["vault-transit"]);
  if (!fields.has("key") && !fields.has("signer"))
    fields.refuse(
      '.key is missing: a reference to the private key, as in "file:///etc/mig/app.pem", or .signer, as in "vault-transit://transit/github-app"',
    );
  if (fields.has("key") && fields.has("signer")) fields.refuse(".key and .signer exclude each other");
  if (key !== undefined && key === previousKey) fields.refuse(".previous_key is the same as .key");
  const pace = readPace(fields, problems);
  return {
    id: id ?? "",
    apiUrl: fields.url("api_url") ?? apiUrl,
    issuer: clientId ?? String(appId ?? ""),
    ...maybe("key", key),
    ...maybe("previousKey", previousKey),
    ...maybe("signer", signer),
    ...maybe("installationId", fields.count("installation_id", Number.MAX_SAFE_INTEGER)),
    ...maybe("pace", pace),
  };
}

/** Of the references only the kind is told here; what the rest means is the secrets' own rule, asked at the start. */
export const keySchemes = ["vault", "gcpsm", "awssm", "k8s", "file", "env", "db"] as const;

function readReference(fields: Fields, key: string, schemes: readonly string[]): string | undefined {
  const text = fields.text(key);
  if (text === undefined) return undefined;
  const scheme = /^([a-z0-9-]{1,20}):\/\/./i.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && schemes.includes(scheme)) return text;
  const list = schemes.map((one) => `${one}://`).join(", ");
  const guess = scheme === undefined ? undefined : nearest(scheme, schemes);
  // Without the text: who puts the key itself here must not find it in a log.
  fields.refuse(
    `.${key} is a reference that begins with ${list}${guess === undefined ? "" : `; did you mean ${guess}://?`}`,
  );
  return undefined;
}

function readPace(fields: Fields, problems: Problem[]): AppConfig["pace"] {
  if (!fields.has("pace")) return undefined;
  const pace = new Fields(fields.raw("pace"), `${fields.source} .pace`, paceKeys, problems);
  const start = pace.count("start", perMinuteMost);
  const max = pace.count("max", perMinuteMost);
  if (start !== undefined && max !== undefined && start > max)
    pace.refuse(".start is the pace at first, so at most .max");
  return { ...maybe("start", start), ...maybe("max", max) };
}
