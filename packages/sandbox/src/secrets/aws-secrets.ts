import { randomUUID } from "node:crypto";
import { checkSigv4 } from "./sigv4.ts";
import { type StoreCall, type StoreReply, type StoreServer, startStoreServer } from "./store-server.ts";

export interface AwsSecretsManagerOptions {
  readonly region?: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface AwsSecretsManager extends StoreServer {
  /** A new version: it becomes AWSCURRENT, the one before AWSPREVIOUS. Returns its id. */
  put(name: string, value: string | Buffer): string;
  arnOf(name: string): string;
  /** Marked for deletion: there, and not to be read. */
  remove(name: string): void;
  /** The policy no longer allows this caller to read it. */
  deny(name: string, isDenied?: boolean): void;
  /** The next so many requests are too many. */
  throttle(times: number): void;
  /** Credentials are exchanged for others; the old ones are unknown. */
  rekey(credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string }): void;
  /** Credentials that were good have run out. */
  expireCredentials(isExpired?: boolean): void;
}

interface Version {
  id: string;
  value: string | Buffer;
}

/**
 * AWS Secrets Manager's GetSecretValue, by its API reference: AWS JSON 1.1, every request's Signature Version 4
 * checked, errors with their types and statuses. Written from the documents, not verified against the real service.
 */
export async function startAwsSecretsManager(options: AwsSecretsManagerOptions): Promise<AwsSecretsManager> {
  const region = options.region ?? "eu-west-1";
  let keys: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } = options;
  const secrets = new Map<string, { versions: Version[]; isRemoved: boolean; isDenied: boolean }>();
  let throttled = 0;
  let isExpired = false;
  const arnOf = (name: string): string =>
    `arn:aws:secretsmanager:${region}:123456789012:secret:${name}-AbCdEf`;

  function answer(call: StoreCall): StoreReply {
    const requestId = { "x-amzn-requestid": randomUUID() };
    const refuse = (
      type: string,
      message: string,
      status = 400,
      headers: Record<string, string> = {},
    ): StoreReply => ({
      status,
      headers: {
        ...requestId,
        "content-type": "application/x-amz-json-1.1",
        "x-amzn-errortype": type,
        ...headers,
      },
      // Both spellings occur in the service's answers.
      body: {
        __type: type,
        ...(type === "AccessDeniedException" || type === "ResourceNotFoundException"
          ? { Message: message }
          : { message }),
      },
    });
    if (call.method !== "POST" || call.url.pathname !== "/")
      return refuse("UnknownOperationException", "", 404);
    const verdict = checkSigv4(call, {
      service: "secretsmanager",
      region,
      secretKeyOf: (id) => (id === keys.accessKeyId ? keys.secretAccessKey : undefined),
      sessionTokenOf: () => keys.sessionToken,
      nowMs: Date.now(),
    });
    if (verdict.error !== undefined) return refuse(verdict.error, verdict.message ?? "");
    if (isExpired)
      return refuse("ExpiredTokenException", "The security token included in the request is expired");
    if (throttled > 0) {
      throttled -= 1;
      return refuse("ThrottlingException", "Rate exceeded");
    }
    if (call.headers["content-type"] !== "application/x-amz-json-1.1")
      return refuse("SerializationException", "");
    if (call.headers["x-amz-target"] !== "secretsmanager.GetSecretValue")
      return refuse("UnknownOperationException", "");
    const { SecretId, VersionStage, VersionId } = JSON.parse(call.body.toString()) as Record<
      string,
      string | undefined
    >;
    const name = [...secrets.keys()].find((one) => one === SecretId || arnOf(one) === SecretId);
    const secret = name === undefined ? undefined : secrets.get(name);
    if (name === undefined || secret === undefined)
      return refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    if (secret.isDenied)
      return refuse(
        "AccessDeniedException",
        `User: arn:aws:iam::123456789012:user/mig is not authorized to perform: secretsmanager:GetSecretValue on resource: ${name} because no identity-based policy allows the secretsmanager:GetSecretValue action`,
      );
    if (secret.isRemoved)
      return refuse(
        "InvalidRequestException",
        "You can't perform this operation on the secret because it was marked for deletion.",
      );
    const stages = (index: number): string[] =>
      index === secret.versions.length - 1
        ? ["AWSCURRENT"]
        : index === secret.versions.length - 2
          ? ["AWSPREVIOUS"]
          : [];
    const index = secret.versions.findIndex(({ id }, at) =>
      VersionId === undefined ? stages(at).includes(VersionStage ?? "AWSCURRENT") : id === VersionId,
    );
    const version = secret.versions[index];
    if (version === undefined)
      return refuse(
        "ResourceNotFoundException",
        `Secrets Manager can't find the specified secret value for ${VersionId === undefined ? `staging label: ${VersionStage}` : `VersionId: ${VersionId}`}`,
      );
    return {
      status: 200,
      headers: { ...requestId, "content-type": "application/x-amz-json-1.1" },
      body: {
        ARN: arnOf(name),
        Name: name,
        VersionId: version.id,
        VersionStages: stages(index),
        CreatedDate: 1_700_000_000.123,
        ...(typeof version.value === "string"
          ? { SecretString: version.value }
          : { SecretBinary: version.value.toString("base64") }),
      },
    };
  }

  const server = await startStoreServer(answer);
  return {
    ...server,
    arnOf,
    put(name, value) {
      const secret = secrets.get(name) ?? { versions: [], isRemoved: false, isDenied: false };
      const id = randomUUID();
      secrets.set(name, { ...secret, versions: [...secret.versions, { id, value }] });
      return id;
    },
    remove: (name) => change(name, { isRemoved: true }),
    deny: (name, isDenied = true) => change(name, { isDenied }),
    throttle(times) {
      throttled = times;
    },
    rekey(credentials) {
      keys = credentials;
    },
    expireCredentials(next = true) {
      isExpired = next;
    },
  };

  function change(name: string, to: { isRemoved?: boolean; isDenied?: boolean }): void {
    const secret = secrets.get(name);
    if (secret !== undefined) secrets.set(name, { ...secret, ...to });
  }
}
