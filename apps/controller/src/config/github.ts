import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { maybe } from "@mig/protocol";
import { type AppConfig, readApps } from "./apps.ts";
import type { Mode } from "./config.ts";
import type { Invocation } from "./env.ts";
import type { Secret } from "./secret.ts";
import { readSecretFile } from "./secret-file.ts";
import type { Values } from "./values.ts";

export interface GitHubConfig {
  apiUrl: string;
  appId: number;
  privateKey: Secret;
  installationId: number | undefined;
}

export interface GitHubRead {
  apiUrl: string;
  /** `github.app_id` and its companions: one App, named "default", for every pool. */
  single: GitHubConfig | undefined;
  /** All Apps of the file, that one too. */
  apps: AppConfig[];
  /** The file says `apps: []`: they are set up over the API. */
  isByApi: boolean;
}

const singleNames = ["github.app_id", "github.private_key_file", "github.installation_id"] as const;

export function readGitHub(values: Values, invocation: Invocation, mode: Mode): GitHubRead {
  const apiUrl = values.url("github.api_url");
  const { apps: written, fileName } = invocation;
  const source = `${fileName}: github.apps`;
  const listed = readApps(written, source, apiUrl, values.problems);
  const isByApi = Array.isArray(written) && written.length === 0;
  const isWritten = singleNames.some((name) => values.isWritten(name));
  if (listed.length > 0 && isWritten) {
    const name = singleNames.find((one) => values.isWritten(one)) ?? "github.app_id";
    values.refuse(name, `excludes ${source}; write this App there, with an id of its own`);
  }
  const isWanted = isWritten || (mode === "normal" && listed.length === 0 && !isByApi);
  const single = readSingle(values, apiUrl, isWanted && mode !== "sample");
  if (mode === "sample") return { apiUrl, single: undefined, apps: [], isByApi };
  const apps = single === undefined ? listed : [singleApp(values, single), ...listed];
  return { apiUrl, single, apps, isByApi };
}

function readSingle(values: Values, apiUrl: string, isWanted: boolean): GitHubConfig | undefined {
  const appId = values.count("github.app_id");
  const privateKey = readSecretFile(values, "github.private_key_file");
  const installationId = values.count("github.installation_id");
  if (!isWanted) return undefined;
  if (!values.isWritten("github.app_id"))
    values.refuse(
      "github.app_id",
      'is the number of the GitHub App that registers runners. Several are listed in the file under "github: { apps: [ … ] }"; an empty list there means that they are set up over the API',
    );
  if (!values.isWritten("github.private_key_file")) {
    values.refuse("github.private_key_file", "names the PEM file of the GitHub App's private key");
  } else if (privateKey !== undefined && !privateKey.reveal().includes("PRIVATE KEY-----")) {
    values.refuse("github.private_key_file", "must be a PEM file with a private key");
  }
  return appId === undefined || privateKey === undefined
    ? undefined
    : { apiUrl, appId, privateKey, installationId };
}

/** The same App as one of a list: its key is read again in time like any other. */
function singleApp(values: Values, { apiUrl, appId, installationId }: GitHubConfig): AppConfig {
  return {
    id: "default",
    apiUrl,
    issuer: String(appId),
    key: pathToFileURL(resolve(values.text("github.private_key_file") ?? "")).href,
    servesAll: true,
    ...maybe("installationId", installationId),
  };
}
