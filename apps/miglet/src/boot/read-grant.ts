import { createHash } from "node:crypto";
import { hideValue, type Log } from "@mig/kit";
import { type JsonObject, maybe, readText } from "@mig/protocol";
import type { Cloud, CloudFacts } from "./cloud-facts.ts";
import type { GrantInMetadata } from "./grant-from-metadata.ts";
import type { Settings } from "./settings-table.ts";

/** What the life is told of the grant in the instance's metadata. */
export type GrantNews =
  /** `id` tells one grant from another and gives nothing of it away. */
  | { readonly is: "found"; readonly id: string; readonly parameters: JsonObject }
  /** None, or one that has expired: another one may come. */
  | { readonly is: "absent" }
  | { readonly is: "bad"; readonly message: string };

export interface GrantReaderParts {
  readonly settings: Settings;
  /** Of the cloud that was found at boot. */
  readonly facts: CloudFacts | undefined;
  readonly log: Log;
}

/**
 * Reads the grant as the settings say, in the words of the life. It is asked every few seconds, so what was found is
 * logged when it is something else than the last time.
 */
export function createGrantReader({ settings, facts, log }: GrantReaderParts): () => Promise<GrantNews> {
  let lastSaid = "";
  let hidden = "";
  const say = (message: string): void => {
    if (message !== lastSaid) log.info({ why: message }, "The metadata has no grant to use yet.");
    lastSaid = message;
  };
  return async () => {
    const cloud = cloudOf(settings, facts);
    if (cloud === undefined)
      return {
        is: "bad",
        message: "No cloud was found whose metadata could hold a grant: set metadata.source.",
      };
    // Loaded by those who need it: most agents get their grant from the controller.
    const { readGrantFromMetadata } = await import("./grant-from-metadata.ts");
    const read = await readGrantFromMetadata({
      cloud,
      endpoint: settings["metadata.endpoint"],
      timeoutMs: settings["metadata.timeout"],
      ...maybe("path", settings["github.metadata_path"]),
      ...maybe("runnerUrl", runnerUrlOf(settings)),
    });
    if (read.is === "none" || read.is === "expired" || read.is === "silent") say(read.message);
    // For as long as this process lives: it stays in the metadata, and so may turn up in any message.
    const secret = secretOf(read);
    if (secret !== hidden) hideValue(secret);
    hidden = secret;
    return newsOf(read, secret);
  };
}

function secretOf(read: GrantInMetadata): string {
  if (read.is !== "found") return "";
  return readText(read.parameters, "jit_config") ?? readText(read.parameters, "registration_token") ?? "";
}

function newsOf(read: GrantInMetadata, secret: string): GrantNews {
  switch (read.is) {
    case "found": {
      const id = createHash("sha256").update(secret).digest("hex").slice(0, 32);
      return { is: "found", id, parameters: read.parameters };
    }
    case "none":
    case "expired":
    case "silent":
      return { is: "absent" };
    case "wrong":
      return { is: "bad", message: read.message };
  }
}

/** A service that was silent at boot has told no facts; the settings may name it all the same. */
function cloudOf(settings: Settings, facts: CloudFacts | undefined): Cloud | undefined {
  const source = settings["metadata.source"];
  return facts?.cloud ?? (source === "gcp" || source === "aws" ? source : undefined);
}

function runnerUrlOf(settings: Settings): string | undefined {
  const org = settings["github.org"];
  return settings["github.runner_url"] ?? (org === undefined ? undefined : `https://github.com/${org}`);
}
