import {
  asObject,
  type JsonObject,
  maybe,
  readText,
  readTexts,
  readTimeMs,
  type Unknown,
} from "@mig/protocol";
import { openAwsSession } from "./aws-metadata.ts";
import type { Cloud } from "./cloud-facts.ts";
import { askGcp } from "./gcp-metadata.ts";
import { type MetadataAnswer, openMetadataService } from "./metadata-request.ts";
import { readYamlSettings } from "./read-yaml.ts";

/** Where the grant lies: the settings metadata.* and github.metadata_path, and the cloud that was found. */
export interface GrantPlace {
  readonly cloud: Cloud;
  readonly endpoint: string;
  /** For one question. */
  readonly timeoutMs: number;
  /** As in seed 001, "/metadata/github/registration_token"; the default is that. */
  readonly path?: string;
  /** For a bare token, which does not say where it is for. */
  readonly runnerUrl?: string;
}

/**
 * What is there. `silent` may help later; `expired` and `wrong` only when somebody puts another one there. No message
 * quotes what was read.
 */
export type GrantInMetadata =
  | {
      readonly is: "found";
      /** Those of a `register_runner`: whoever obeys it judges the rest (life/read-order.ts). */
      readonly parameters: JsonObject;
      readonly expiresAtMs?: number;
    }
  | { readonly is: "none" | "expired" | "wrong" | "silent"; readonly message: string };

/** A registration takes a moment; what ends within it is as good as expired. */
const marginMs = 60_000;
const usualPath = "/metadata/github/registration_token";

/**
 * Reads a grant that somebody made beforehand (seed 001, "Direct Token from Metadata"). On GCP an attribute of the
 * instance, on AWS a tag, or the map `miglet_grant` of the user data, because a tag holds 256 characters, which is a
 * token and no JIT config. Never of a project: what one VM uses up another one cannot use. Never rejects.
 */
export async function readGrantFromMetadata(place: GrantPlace, nowMs = Date.now()): Promise<GrantInMetadata> {
  const names = namesOf(place.path ?? usualPath);
  if (names.length === 0)
    return wrong("github.metadata_path names nothing: write it as /metadata/github/registration_token.");
  const service = openMetadataService(place.endpoint);
  try {
    const aws = openAwsSession(service);
    const ask = (name: string): Promise<MetadataAnswer> =>
      place.cloud === "gcp"
        ? askGcp(service, `instance/attributes/${name}`, place.timeoutMs)
        : aws.ask(`/latest/meta-data/tags/instance/${name}`, place.timeoutMs);
    const silent = (what: string, { status, why }: MetadataAnswer): GrantInMetadata => ({
      is: "silent",
      message: `The metadata service did not give ${what}: ${why ?? `HTTP ${status}`}.`,
    });
    for (const name of names) {
      const answer = await ask(name);
      if (answer.status === 200)
        return understand(answer.body.toString("utf8"), name, place.runnerUrl, nowMs);
      if (answer.status !== 404) return silent(name, answer);
    }
    if (place.cloud === "aws") {
      const answer = await aws.ask("/latest/user-data", place.timeoutMs);
      if (answer.status !== 200 && answer.status !== 404) return silent("the user data", answer);
      const written = answer.status === 200 ? await findInUserData(answer.body.toString("utf8")) : undefined;
      if (written !== undefined) return understand(written, "the user data", place.runnerUrl, nowMs);
    }
    return { is: "none", message: `There is no ${names.join(" and no ")} in the instance's metadata.` };
  } finally {
    service.close();
  }
}

/**
 * Neither cloud has "/" in names: of `/metadata/github/registration_token` the name is `github-registration_token`, or
 * `github-registration-token`. What begins with `miglet-` is a setting (metadata-names.ts) and cannot be a grant.
 */
function namesOf(path: string): string[] {
  const name = path
    .split("/")
    .filter(
      (part, index, all) =>
        part !== "" && !(part === "metadata" && all.slice(0, index).every((p) => p === "")),
    )
    .join("-");
  if (!/^[\w+\-=.,:@]{1,128}$/.test(name) || /^miglet[-._]/i.test(name)) return [];
  return [...new Set([name, name.replaceAll("_", "-")])];
}

/** Beside `miglet:`, which holds the settings (metadata-names.ts). */
async function findInUserData(text: string): Promise<string | undefined> {
  if (!/^miglet_grant\s*:/m.test(text)) return undefined;
  const { found } = await readYamlSettings(text, { pick: (top) => top["miglet_grant"] ?? {} });
  return found.size === 0 ? "{}" : JSON.stringify(Object.fromEntries(found));
}

/** Exported for its property test. */
export function understand(
  text: string,
  name: string,
  runnerUrl: string | undefined,
  nowMs: number,
): GrantInMetadata {
  const content = text.replace(/^\uFEFF/, "").trim();
  if (content === "") return { is: "none", message: `${name} is empty.` };
  const given = content.startsWith("{") ? parse(content) : bare(content);
  if (given === undefined)
    return wrong(`${name} is neither a token nor an object with registration_token or jit_config.`);
  const token = readText(given, "registration_token");
  const jitConfig = readText(given, "jit_config");
  if ((token === undefined) === (jitConfig === undefined))
    return wrong(`${name} needs registration_token or jit_config, one of them.`);
  if (token !== undefined && !/^[\x21-\x7e]{1,4096}$/.test(token))
    return wrong(`registration_token in ${name} is no token.`);
  if (jitConfig !== undefined && !isJitConfig(jitConfig)) return wrong(`jit_config in ${name} is none.`);
  const url = readText(given, "runner_url") ?? runnerUrl;
  if (token !== undefined && url === undefined)
    return wrong(
      `${name} needs runner_url, as https://github.com/ORG: a token does not say where it is for.`,
    );
  const expiresAtMs = readTimeMs(given, "expires_at");
  if (given["expires_at"] !== undefined && expiresAtMs === undefined)
    return wrong(`expires_at in ${name} is no time as 2026-11-21T07:00:00Z.`);
  if (expiresAtMs !== undefined && expiresAtMs - marginMs <= nowMs)
    return {
      is: "expired",
      message: `The grant in ${name} was good until ${new Date(expiresAtMs).toISOString()}.`,
    };
  return {
    is: "found",
    parameters: {
      ...maybe("registration_token", token),
      ...maybe("jit_config", jitConfig),
      ...maybe("runner_url", url),
      ...maybe("runner_name", readText(given, "runner_name")),
      ...maybe("runner_group", readText(given, "runner_group")),
      ...maybe("labels", labelsOf(given)),
    },
    ...maybe("expiresAtMs", expiresAtMs),
  };
}

/** A list, or one text with commas, as a person writes it into an attribute. */
function labelsOf(given: Unknown): string[] | undefined {
  const text = readText(given, "labels");
  if (text === undefined) return readTexts(given, "labels");
  return text
    .split(",")
    .map((label) => label.trim())
    .filter((label) => label !== "");
}

function parse(content: string): Unknown | undefined {
  try {
    return asObject(JSON.parse(content));
  } catch {
    return undefined;
  }
}

function bare(content: string): Unknown | undefined {
  if (!/^[\x21-\x7e]{1,65536}$/.test(content)) return undefined;
  return isJitConfig(content) ? { jit_config: content } : { registration_token: content };
}

/** base64 of an object of files (runner-contract §7.3). */
function isJitConfig(text: string): boolean {
  if (!/^[A-Za-z0-9+/]{16,}={0,2}$/.test(text)) return false;
  const files = parse(Buffer.from(text, "base64").toString("utf8"));
  return files !== undefined && Object.hasOwn(files, ".runner");
}

const wrong = (message: string): GrantInMetadata => ({ is: "wrong", message });
