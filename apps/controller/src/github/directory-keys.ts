import { createHash } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import { type JsonObject, maybe, toJsonObject, type Unknown } from "@mig/protocol";
import { readAppKey } from "./app-jwt.ts";
import type { Kind } from "./directory-rows.ts";

export interface SentKeys {
  key?: string;
  previousKey?: string;
}

/** What is stored, and the keys that must not be. */
export function splitKeys(kind: Kind, body: Unknown): { given: JsonObject; sent: SentKeys } {
  const all = toJsonObject(body);
  if (kind !== "github-apps") return { given: all, sent: {} };
  const { private_key: key, previous_private_key: previousKey, ...given } = all;
  return { given, sent: { ...maybe("key", readKey(key)), ...maybe("previousKey", readKey(previousKey)) } };
}

function readKey(pem: unknown): string | undefined {
  if (pem === undefined || pem === null) return undefined;
  try {
    readAppKey(String(pem));
  } catch (error) {
    const why = error instanceof MigError ? error.message : "it cannot be read";
    throw new MigError("invalid_request", `private_key: ${why}`);
  }
  return String(pem);
}

/** Where an App's keys are in the database, in its own alphabet: two, so that one is used while the other is changed. */
export function keySlots(id: string): string[] {
  const isPlain = /^[a-z0-9][a-z0-9._-]{0,63}$/.test(id);
  const name = `github-app/${isPlain ? id : createHash("sha256").update(id).digest("hex").slice(0, 40)}`;
  return [name, `${name}/2`];
}
