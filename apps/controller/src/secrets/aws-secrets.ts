import type { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readNumber, readText } from "@mig/protocol";
import { type AskStore, createAskStore, readRetryAfterMs } from "./ask-store.ts";
import { type AwsHandler, createAwsHandler } from "./aws-handler.ts";
import type { FetchedSecret, SecretProvider } from "./provider.ts";
import { readJson } from "./read-answer.ts";
import type { ReferenceOf } from "./reference.ts";
import { quote, refusalOf } from "./refuse.ts";
import { SecretValue } from "./secret-value.ts";
import { within } from "./within.ts";

export interface AwsSettings {
  /** Where a reference names no region. Default: what the SDK finds (AWS_REGION, the profile). */
  region?: string;
  endpoint?: string;
  /** Default: the SDK's chain (environment, profile, web identity, container, instance). */
  credentials?: { accessKeyId: string; secretAccessKey: SecretValue; sessionToken?: SecretValue };
  timeoutMs?: number;
}

type Ref = ReferenceOf<"awssm">;
const who = "AWS Secrets Manager";

/** AWS's own client, loaded at the first use: its chain of credentials is not for rewriting. It asks through our HTTP. */
export function createAwsSecrets(settings: AwsSettings = {}): SecretProvider<Ref> {
  const { timeoutMs } = settings;
  const store: AskStore = createAskStore({ who, ...maybe("timeoutMs", timeoutMs) });
  const handler = createAwsHandler(store);
  const clients = new Map<string, Promise<SecretsManagerClient>>();

  function clientOf(region: string | undefined): Promise<SecretsManagerClient> {
    const key = region ?? "";
    const known = clients.get(key);
    if (known !== undefined) return known;
    const client = openClient(settings, region, handler);
    clients.set(key, client);
    return client;
  }

  async function getValue(
    reference: Ref,
    which: { VersionId?: string; VersionStage?: string },
    signal: AbortSignal,
  ): Promise<FetchedSecret> {
    const region = reference.region ?? settings.region;
    try {
      const { GetSecretValueCommand } = await import("@aws-sdk/client-secrets-manager");
      const client = await clientOf(region);
      const command = new GetSecretValueCommand({ SecretId: reference.id, ...which });
      const answer = await within(client.send(command, { abortSignal: signal }), signal, who);
      return toSecret(answer, reference);
    } catch (error) {
      const refused = translate(error, reference);
      // Credentials that have run out are looked for anew at the next attempt.
      const isOver = error instanceof Error && error.name.includes("ExpiredToken");
      if (isOver || refused.code === "secret_forbidden") clients.delete(region ?? "");
      throw refused;
    }
  }

  return {
    fetch: (reference, signal) => getValue(reference, wantedOf(reference), signal),
    async fetchPrevious(reference, current, signal) {
      if (reference.version !== undefined || (reference.stage ?? "AWSCURRENT") !== "AWSCURRENT")
        return undefined;
      try {
        const previous = await getValue(reference, { VersionStage: "AWSPREVIOUS" }, signal);
        if (previous.version !== current) return previous;
        previous.value.dispose();
        return undefined;
      } catch (error) {
        if (error instanceof MigError && error.code !== "secret_unavailable") return undefined;
        throw error;
      }
    },
    async close() {
      store.close();
      for (const client of clients.values()) (await client.catch(() => undefined))?.destroy();
      clients.clear();
    },
  };
}

async function openClient(
  { endpoint, credentials }: AwsSettings,
  region: string | undefined,
  requestHandler: AwsHandler,
): Promise<SecretsManagerClient> {
  const { SecretsManagerClient } = await import("@aws-sdk/client-secrets-manager");
  return new SecretsManagerClient({
    // The resolver tries again; twice the same would be nine requests.
    maxAttempts: 1,
    requestHandler,
    ...maybe("region", region),
    ...maybe("endpoint", endpoint),
    ...(credentials === undefined
      ? {}
      : {
          credentials: async () => ({
            accessKeyId: credentials.accessKeyId,
            secretAccessKey: credentials.secretAccessKey.reveal(),
            ...(credentials.sessionToken === undefined
              ? {}
              : { sessionToken: credentials.sessionToken.reveal() }),
          }),
        }),
  });
}

function wantedOf({ version, stage }: Ref): { VersionId?: string; VersionStage?: string } {
  return version === undefined ? { VersionStage: stage ?? "AWSCURRENT" } : { VersionId: version };
}

function toSecret(
  answer: {
    SecretString?: string | undefined;
    SecretBinary?: Uint8Array | undefined;
    VersionId?: string | undefined;
  },
  { text, jsonKey }: Ref,
): FetchedSecret {
  const { SecretString, SecretBinary, VersionId: version } = answer;
  if (version === undefined || (SecretString === undefined && SecretBinary === undefined))
    throw new MigError("secret_unavailable", `${who} answers for ${text} without a value`);
  if (jsonKey === undefined)
    return { value: new SecretValue(SecretString ?? Buffer.from(SecretBinary ?? [])), version };
  const fields = SecretString === undefined ? undefined : readJson(SecretString);
  const field = fields === undefined ? undefined : readText(fields, jsonKey);
  if (field === undefined)
    throw new MigError(
      "secret_invalid",
      fields === undefined
        ? `${text} is not a JSON object; leave out #${jsonKey} to take it whole`
        : `${text}: its JSON has no text of that name; there are${quote(Object.keys(fields).slice(0, 20).join(", ") || "none").slice(1)}`,
    );
  return { value: new SecretValue(field), version };
}

const transient =
  /Throttl|TooManyRequests|InternalService|RequestLimit|ServiceUnavailable|SlowDown|ExpiredToken|RequestTimeout/;
const unknown =
  /UnrecognizedClient|InvalidSignature|IncompleteSignature|InvalidClientTokenId|MissingAuthentication|SignatureDoesNotMatch|RequestExpired/;

/** The SDK's errors carry its requests and answers; what says what to do is taken out of them, and no cause. */
function translate(error: unknown, { text }: Ref): MigError {
  if (error instanceof MigError) return error;
  const fields = asObject(error) ?? {};
  const name = error instanceof Error ? error.name : "";
  const said = `${name}: ${error instanceof Error ? error.message : ""}`;
  const status = readNumber(asObject(fields["$metadata"]) ?? {}, "httpStatusCode") ?? 0;
  const headers = asObject(asObject(fields["$response"])?.["headers"]) ?? {};
  const common = { who, what: text, said, retryAfterMs: readRetryAfterMs(readText(headers, "retry-after")) };
  if (name === "CredentialsProviderError" || /credential/i.test(name))
    return new MigError(
      "secret_forbidden",
      "there are no AWS credentials: give the instance or the pod a role, or set a profile",
    );
  if (/region is missing/i.test(said))
    return new MigError(
      "settings_invalid",
      `${text} names no region, and neither does this machine: add ?region=`,
    );
  if (transient.test(name)) return refusalOf({ ...common, status: 429 });
  if (unknown.test(name)) return refusalOf({ ...common, status: 401 });
  if (name === "AccessDeniedException" || name === "DecryptionFailure")
    return refusalOf({
      ...common,
      status: 403,
      permission: "secretsmanager:GetSecretValue, and kms:Decrypt on its key",
    });
  if (name === "ResourceNotFoundException") return refusalOf({ ...common, status: 404 });
  // An answer that the SDK could not read has status 200 and a parser's message, which quotes it.
  if (status < 400)
    return new MigError("secret_unavailable", `${who} answers for ${text} with something unreadable`);
  return refusalOf({ ...common, status });
}
