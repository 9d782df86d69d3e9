import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readText } from "@mig/protocol";
import { openAwsSession } from "../aws-metadata.ts";
import { openMetadataService } from "../metadata-request.ts";
import { type AwsCredentials, signCallerIdentity } from "./aws-sign.ts";
import type { MetadataPlace } from "./gcp-proof.ts";

/** As the body of a join wants it. */
export interface AwsProof {
  /** PKCS #7 in base64, the `rsa2048` form: the others sign with SHA-1 or do not hold the document. */
  readonly document: string;
  /** Only where the instance has a role. */
  readonly caller_identity?: { readonly url: string; readonly headers: Readonly<Record<string, string>> };
}

export async function askAwsProof(
  { endpoint, timeoutMs }: MetadataPlace,
  challenge: string,
): Promise<AwsProof> {
  const service = openMetadataService(endpoint);
  const session = openAwsSession(service);
  const ask = async (path: string): Promise<string | undefined> => {
    const { status, body, why } = await session.ask(`/latest/${path}`, timeoutMs);
    if (status === 404) return undefined;
    if (status !== 200)
      throw new MigError(
        "controller_unreachable",
        `The metadata service does not answer /latest/${path} (${why ?? `HTTP ${status}`}).`,
      );
    return body.toString("utf8");
  };
  try {
    const document = await ask("dynamic/instance-identity/rsa2048");
    if (document === undefined)
      throw new MigError("controller_unreachable", "The metadata service has no rsa2048 identity document.");
    const region = readJson(await ask("dynamic/instance-identity/document"))("region");
    const credentials = await readCredentials(ask);
    const signed =
      credentials === undefined || region === undefined
        ? undefined
        : signCallerIdentity(credentials, { region, challenge, atMs: Date.now() });
    return { document: document.replaceAll(/\s/g, ""), ...maybe("caller_identity", signed) };
  } finally {
    service.close();
  }
}

/** Of the instance's role; undefined where it has none. */
async function readCredentials(
  ask: (path: string) => Promise<string | undefined>,
): Promise<AwsCredentials | undefined> {
  const path = "meta-data/iam/security-credentials/";
  const role = (await ask(path))?.trim().split("\n")[0] ?? "";
  if (!/^[\w+=,.@-]{1,64}$/.test(role)) return undefined;
  const said = readJson(await ask(`${path}${role}`));
  const [accessKeyId, secretKey, sessionToken] = [
    said("AccessKeyId"),
    said("SecretAccessKey"),
    said("Token"),
  ];
  if (accessKeyId === undefined || secretKey === undefined || sessionToken === undefined) return undefined;
  return { accessKeyId, secretKey, sessionToken };
}

function readJson(text: string | undefined): (key: string) => string | undefined {
  let from: ReturnType<typeof asObject>;
  try {
    from = asObject(JSON.parse(text ?? "null"));
  } catch {
    // As good as absent.
  }
  return (key) => (from === undefined ? undefined : readText(from, key));
}
