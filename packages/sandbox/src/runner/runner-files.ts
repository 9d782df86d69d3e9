/** The dot-files of a configured runner (runner-contract §1.4, §1.5, §7.3). */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface RunnerSettings {
  readonly agentId: number;
  readonly agentName: string;
  readonly gitHubUrl: string;
  readonly serverUrlV2: string;
  readonly workFolder: string;
  readonly ephemeral: boolean;
}

export function isConfigured(root: string): boolean {
  return existsSync(join(root, ".runner")) || existsSync(join(root, ".runner_migrated"));
}

/** Null when the runner is not configured. Keys match in any case, numbers and booleans may be text, null is absent. */
export function readSettings(root: string): RunnerSettings | null {
  if (!isConfigured(root)) return null;
  const file = readObject(join(root, ".runner"));
  const text = (key: string) => String(file.get(key) ?? "");
  return {
    agentId: Number(text("agentid")),
    agentName: text("agentname"),
    gitHubUrl: text("githuburl"),
    serverUrlV2: text("serverurlv2"),
    workFolder: text("workfolder") || "_work",
    ephemeral: text("ephemeral").toLowerCase() === "true",
  };
}

export function readClientId(root: string): string {
  const data = readObject(join(root, ".credentials")).get("data");
  const entries = Object.entries(typeof data === "object" && data !== null ? data : {});
  return String(entries.find(([key]) => key.toLowerCase() === "clientid")?.[1] ?? "");
}

function readObject(path: string): ReadonlyMap<string, unknown> {
  const value: unknown = JSON.parse(readFileSync(path, "utf8").replace(/^\uFEFF/, ""));
  const entries = Object.entries(typeof value === "object" && value !== null ? value : {});
  return new Map(entries.map(([key, content]) => [key.toLowerCase(), content]));
}

/** As .NET writes it: UTF-8 with a BOM, indented. */
export function writeWithBom(root: string, name: string, content: unknown): void {
  writeFileSync(join(root, name), `\uFEFF${JSON.stringify(content, undefined, 2)}`);
}

/** The key file; kept when it exists. Random numbers stand in for a key: making one takes 100 ms and nobody checks it. */
export function writeKeyFile(root: string): void {
  const path = join(root, ".credentials_rsaparams");
  if (existsSync(path)) return;
  const number = (bytes: number) => randomBytes(bytes).toString("base64");
  const half = { dp: number(128), dq: number(128), inverseQ: number(128), p: number(128), q: number(128) };
  const key = { d: number(256), ...half, exponent: "AQAB", modulus: number(256) };
  writeFileSync(path, JSON.stringify(key));
  chmodSync(path, 0o600);
}

/** Writes the files inside a JIT config verbatim, over whatever is there; throws when the text is none. */
export function writeJitConfig(root: string, encoded: string): void {
  if (encoded.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(encoded)) {
    throw new Error(
      "The input is not a valid Base-64 string as it contains a non-base 64 character, more than two padding characters, or an illegal character among the padding characters.",
    );
  }
  const files: unknown = JSON.parse(Buffer.from(encoded, "base64").toString("utf8"));
  for (const [name, content] of Object.entries(files ?? {})) {
    writeFileSync(join(root, name), Buffer.from(String(content), "base64"));
  }
}

/** True when the file was there. */
export function removeFile(root: string, name: string): boolean {
  const path = join(root, name);
  if (!existsSync(path)) return false;
  rmSync(path);
  return true;
}
