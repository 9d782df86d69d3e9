import { MigError } from "@mig/lifecycle";
import { askGcp } from "../gcp-metadata.ts";
import { openMetadataService } from "../metadata-request.ts";

/** Where the cloud's metadata service answers. */
export interface MetadataPlace {
  readonly endpoint: string;
  readonly timeoutMs: number;
}

/** A JWT that Google signed for this instance and this challenge ("Verify the identity of an instance"). */
export async function askIdentityToken(
  { endpoint, timeoutMs }: MetadataPlace,
  challenge: string,
): Promise<string> {
  const service = openMetadataService(endpoint);
  try {
    const path = `instance/service-accounts/default/identity?audience=${encodeURIComponent(challenge)}&format=full`;
    const { status, body, why } = await askGcp(service, path, timeoutMs);
    const token = body.toString("latin1").trim();
    if (status === 404)
      throw new MigError(
        "settings_invalid",
        "This instance has no service account, so Google signs no token for it: give it one, or join another way.",
      );
    if (status !== 200 || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token))
      throw new MigError(
        "controller_unreachable",
        `The metadata service gives no instance identity token (${why ?? `HTTP ${status}`}).`,
      );
    return token;
  } finally {
    service.close();
  }
}
