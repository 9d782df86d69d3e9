import { MigError } from "@mig/lifecycle";
import { asObject, readNumber, readText, type Unknown } from "@mig/protocol";
import type { FetchedSecret, SecretProvider } from "./provider.ts";
import type { ReferenceOf } from "./reference.ts";
import { quote } from "./refuse.ts";
import { SecretValue } from "./secret-value.ts";
import type { VaultSession } from "./vault-session.ts";

type Ref = ReferenceOf<"vault">;

/** The KV engine, version 2: GET /v1/MOUNT/data/PATH?version=N. */
export function createVaultSecrets(session: VaultSession): SecretProvider<Ref> {
  async function read(
    reference: Ref,
    version: string | undefined,
    signal: AbortSignal,
  ): Promise<FetchedSecret> {
    const { mount, path, namespace, text } = reference;
    const answer = await session.ask({
      method: "GET",
      path: `${escapePath(mount)}/data/${escapePath(path)}${version === undefined ? "" : `?version=${version}`}`,
      namespace,
      what: text,
      signal,
    });
    const data = asObject(answer.body["data"]) ?? {};
    const metadata = asObject(data["metadata"]);
    if (answer.status === 404 && metadata !== undefined)
      throw new MigError(
        "secret_invalid",
        `${text}: this version is ${metadata["destroyed"] === true ? "destroyed" : "deleted"} in ${session.who}; undelete it, or write another one`,
      );
    if (answer.status !== 200)
      throw session.refusal(answer, text, `the capability "read" on ${mount}/data/${path}`);
    const found = readNumber(metadata ?? {}, "version");
    if (found === undefined)
      throw new MigError(
        "secret_invalid",
        `${text}: ${mount} is no KV engine of version 2; enable one, or upgrade it`,
      );
    return {
      value: new SecretValue(fieldOf(asObject(data["data"]) ?? {}, reference)),
      version: String(found),
    };
  }

  return {
    fetch: (reference, signal) => read(reference, reference.version, signal),
    async fetchPrevious(reference, current, signal) {
      const before = Number(current) - 1;
      if (reference.version !== undefined || !(before >= 1)) return undefined;
      try {
        return await read(reference, String(before), signal);
      } catch (error) {
        if (error instanceof MigError && error.code !== "secret_unavailable") return undefined;
        throw error;
      }
    },
  };
}

function fieldOf(fields: Unknown, { field, text }: Ref): string {
  const value = readText(fields, field);
  if (value !== undefined && value !== "") return value;
  const names = Object.keys(fields).slice(0, 20).join(", ");
  throw new MigError(
    "secret_invalid",
    `${text} has no such field, or it is no text; write #FIELD with one of those that are there${quote(names === "" ? "none" : names)}`,
  );
}

const escapePath = (path: string): string => path.split("/").map(encodeURIComponent).join("/");
