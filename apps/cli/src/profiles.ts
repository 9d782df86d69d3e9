import { mkdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { writeFileAtomic } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { parse, stringify } from "yaml";
import type { Credential } from "./credential.ts";
import { UsageError } from "./verb.ts";

export interface Profile {
  url: string;
  credential: Credential;
}

export interface Profiles {
  /** The one that is meant where none is named: that of the last login. */
  current: string | undefined;
  all: Record<string, Profile>;
}

export function profilesPath(): string {
  const config = process.env["XDG_CONFIG_HOME"];
  const base = config === undefined || config === "" ? join(homedir(), ".config") : config;
  return join(base, "mig", "profiles.yaml");
}

export async function readProfiles(): Promise<Profiles> {
  const path = profilesPath();
  const all: Record<string, Profile> = Object.create(null) as Record<string, Profile>;
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw new UsageError(`${path} cannot be read (${error.code ?? "error"})`);
  });
  let content: ReturnType<typeof asObject>;
  try {
    content = asObject(parse(text) ?? {});
  } catch {
    content = undefined;
  }
  if (content === undefined)
    throw new UsageError(`${path} is not YAML; mend it, or delete it and migctl login`);
  for (const [name, item] of Object.entries(asObject(content["profiles"]) ?? {})) {
    const url = readText(asObject(item) ?? {}, "url");
    const credential = readCredential(asObject(item) ?? {});
    if (url !== undefined && credential !== undefined) all[name] = { url, credential };
  }
  return { current: readText(content, "current"), all };
}

function readCredential(item: Unknown): Credential | undefined {
  const key = readText(item, "key");
  const tokenFile = readText(item, "token_file");
  const tokenCommand = readText(item, "token_command");
  if (key !== undefined) return { key };
  if (tokenFile !== undefined) return { tokenFile };
  return tokenCommand === undefined ? undefined : { tokenCommand };
}

function writeCredential(credential: Credential): object {
  if ("key" in credential) return { key: credential.key };
  return "tokenFile" in credential
    ? { token_file: credential.tokenFile }
    : { token_command: credential.tokenCommand };
}

/** Whole or not at all, and never readable by others, not even for a moment. */
export async function writeProfiles({ current, all }: Profiles): Promise<string> {
  const path = profilesPath();
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const profiles = Object.fromEntries(
    Object.entries(all).map(([name, { url, credential }]) => [name, { url, ...writeCredential(credential) }]),
  );
  await writeFileAtomic(path, stringify({ current, profiles }), 0o600);
  return path;
}
