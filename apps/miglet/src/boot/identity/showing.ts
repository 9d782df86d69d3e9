import { maybe } from "@mig/protocol";
import type { Settings } from "../settings-table.ts";
import { createEnrolmentReader } from "./enrolment-token.ts";
import type { Showing } from "./join.ts";
import { joinMethodOf } from "./join-method.ts";

/** What this VM joins with, by its settings. What a cloud signs is asked for anew at each join. */
export function createShowing(settings: Partial<Settings>): () => Promise<Showing | undefined> {
  const method = joinMethodOf(settings);
  const place = {
    // Its settings may be what is wrong; the places are those that every cloud has.
    endpoint: settings["metadata.endpoint"] ?? "http://169.254.169.254",
    timeoutMs: settings["metadata.timeout"] ?? 2_000,
  };
  // Only where several pools would take the machine does it have to say which.
  const pool = maybe("pool_id", settings.pool_id);
  switch (method) {
    case "gcp":
      return async () => ({
        method,
        async show(challenge) {
          const { askIdentityToken } = await import("./gcp-proof.ts");
          return { ...pool, gcp: { identity_token: await askIdentityToken(place, challenge) } };
        },
      });
    case "aws":
      return async () => ({
        method,
        async show(challenge) {
          const { askAwsProof } = await import("./aws-proof.ts");
          return { ...pool, aws: await askAwsProof(place, challenge) };
        },
      });
    case "mtls":
      // The connection proves it, and there is nothing to say.
      return async () => ({ method, show: async () => pool });
    case "token":
    case "none": {
      const read = createEnrolmentReader(settings);
      return async () => {
        const token = await read();
        return token === undefined ? undefined : { method: "token", show: async () => ({ token }) };
      };
    }
  }
}
