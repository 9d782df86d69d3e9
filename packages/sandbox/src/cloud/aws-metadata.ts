import { randomBytes } from "node:crypto";
import { type MetadataReply, type MetadataServer, startMetadataServer } from "./metadata-server.ts";

export interface AwsMetadataOptions {
  readonly tags?: Readonly<Record<string, string>>;
  /** "Allow tags in instance metadata"; off, as it is on a new instance, `tags/instance` is not found. */
  readonly tagsEnabled?: boolean;
  readonly userData?: string | Buffer;
  readonly lifeCycle?: "on-demand" | "spot";
  /** More or other keys of the instance identity document. */
  readonly identity?: Readonly<Record<string, string>>;
  /** Makes `rsa2048` of the identity document. */
  readonly signDocument?: (document: string) => Promise<string>;
  /** The instance's role, with its temporary credentials. */
  readonly role?: {
    readonly name: string;
    readonly accessKeyId: string;
    readonly secretKey: string;
    readonly sessionToken: string;
  };
}

export interface AwsMetadata extends MetadataServer {
  setTag(name: string, value?: string): void;
  enableTags(isEnabled: boolean): void;
  setUserData(content?: string | Buffer): void;
  /** `spot/instance-action` appears. */
  interrupt(action: "terminate" | "stop" | "hibernate", atMs: number): void;
  /** `events/recommendations/rebalance` appears. */
  recommendRebalance(atMs: number): void;
  /** Every token that was given out is unknown from now on. */
  forgetTokens(): void;
}

/**
 * EC2's instance metadata service, version 2 only (HttpTokens=required), as its documents describe it ("Use IMDSv2"):
 * PUT gives a session token for 1 to 21,600 seconds, unless X-Forwarded-For says that a proxy asks; everything else
 * wants that token. Written from the documents, not verified against the real service.
 */
export async function startAwsMetadata(options: AwsMetadataOptions = {}): Promise<AwsMetadata> {
  const tokens = new Map<string, number>();
  const tags = new Map(Object.entries(options.tags ?? {}));
  let tagsEnabled = options.tagsEnabled ?? true;
  let userData = options.userData;
  const files = new Map<string, string>([
    ["instance-id", "i-0123456789abcdef0"],
    ["instance-type", "c7i.large"],
    ["local-hostname", "ip-10-0-0-5.eu-west-1.compute.internal"],
    ["instance-life-cycle", options.lifeCycle ?? "on-demand"],
  ]);
  const identity = {
    accountId: "123456789012",
    architecture: "x86_64",
    availabilityZone: "eu-west-1b",
    imageId: "ami-0abc",
    instanceId: "i-0123456789abcdef0",
    instanceType: "c7i.large",
    pendingTime: "2026-11-21T00:00:00Z",
    region: "eu-west-1",
    ...options.identity,
  };

  const document = JSON.stringify(identity, null, 2);
  const { role } = options;
  if (role !== undefined) {
    files.set("iam/security-credentials/", role.name);
    const said = { AccessKeyId: role.accessKeyId, SecretAccessKey: role.secretKey, Token: role.sessionToken };
    files.set(`iam/security-credentials/${role.name}`, JSON.stringify({ Code: "Success", ...said }));
  }
  const rsa2048 = await options.signDocument?.(document);

  const giveToken = (ttl: string | string[] | undefined, isForwarded: boolean): MetadataReply => {
    if (isForwarded) return { status: 403 };
    const seconds = typeof ttl === "string" && /^\d{1,6}$/.test(ttl) ? Number(ttl) : 0;
    if (seconds < 1 || seconds > 21_600) return { status: 400 };
    const token = randomBytes(42).toString("base64");
    tokens.set(token, performance.now() + seconds * 1_000);
    return {
      status: 200,
      body: token,
      headers: { "x-aws-ec2-metadata-token-ttl-seconds": String(seconds), "content-type": "text/plain" },
    };
  };

  const look = (path: string): MetadataReply => {
    const found = (body: string | Buffer | undefined): MetadataReply =>
      body === undefined ? { status: 404, body: "<h1>404 - Not Found</h1>" } : { status: 200, body };
    if (path === "/latest/user-data") return found(userData);
    if (path === "/latest/dynamic/instance-identity/document") return found(document);
    if (path === "/latest/dynamic/instance-identity/rsa2048") return found(rsa2048);
    const name = /^\/latest\/meta-data\/(.*)$/.exec(path)?.[1];
    if (name === undefined) return found(undefined);
    const tag = /^tags\/instance(?:\/(.*))?$/.exec(name);
    if (tag === null) return found(files.get(name));
    if (!tagsEnabled) return found(undefined);
    return found((tag[1] ?? "") === "" ? [...tags.keys()].join("\n") : tags.get(tag[1] ?? ""));
  };

  const server = await startMetadataServer(({ method, headers }, { pathname }) => {
    if (method === "PUT" && pathname === "/latest/api/token")
      return giveToken(
        headers["x-aws-ec2-metadata-token-ttl-seconds"],
        headers["x-forwarded-for"] !== undefined,
      );
    if (method !== "GET") return { status: 405 };
    const token = headers["x-aws-ec2-metadata-token"];
    const untilMs = typeof token === "string" ? tokens.get(token) : undefined;
    if (untilMs === undefined || untilMs < performance.now())
      return { status: 401, body: "<h1>401 - Unauthorized</h1>" };
    return look(decodeURIComponent(pathname));
  });
  return {
    ...server,
    setTag: (name, value) => void (value === undefined ? tags.delete(name) : tags.set(name, value)),
    enableTags(isEnabled) {
      tagsEnabled = isEnabled;
    },
    setUserData(content) {
      userData = content;
    },
    interrupt: (action, atMs) =>
      void files.set("spot/instance-action", JSON.stringify({ action, time: inSeconds(atMs) })),
    recommendRebalance: (atMs) =>
      void files.set("events/recommendations/rebalance", JSON.stringify({ noticeTime: inSeconds(atMs) })),
    forgetTokens: () => tokens.clear(),
  };
}

/** "2026-11-21T05:30:00Z": whole seconds, as the service writes them. */
const inSeconds = (atMs: number): string => new Date(atMs).toISOString().replace(/\.\d+Z$/, "Z");
