import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { checkSigv4 } from "../secrets/sigv4.ts";
import { type StoreServer, startStoreServer } from "../secrets/store-server.ts";

const run = promisify(execFile);

/** EC2, as far as identity documents go: one key for a region, and what it signs, made by the openssl program. */
export interface AwsRegion {
  /** As the setting join.aws_certificates_file wants it. */
  readonly certificatesPem: string;
  /** PKCS #7 in base64, with the document inside and without the certificate. `md`: what the real one never uses. */
  sign(document: string, md?: "sha256" | "sha1"): Promise<string>;
}

export async function createAwsRegion(region = "eu-west-1", bits = 2048): Promise<AwsRegion> {
  const pair = await inFolder(async (folder) => {
    await run(
      "openssl",
      [
        ...[
          "req",
          "-x509",
          "-newkey",
          `rsa:${bits}`,
          "-nodes",
          "-days",
          "3650",
          "-subj",
          "/O=Amazon Web Services LLC",
        ],
        ...["-keyout", "key.pem", "-out", "cert.pem"],
      ],
      { cwd: folder },
    );
    return {
      key: await readFile(join(folder, "key.pem")),
      cert: await readFile(join(folder, "cert.pem"), "utf8"),
    };
  });
  return {
    certificatesPem: `# ${region}\n${pair.cert}`,
    sign: (document, md = "sha256") =>
      inFolder(async (folder) => {
        await Promise.all([
          writeFile(join(folder, "key.pem"), pair.key, { mode: 0o600 }),
          writeFile(join(folder, "cert.pem"), pair.cert),
          writeFile(join(folder, "document"), document),
        ]);
        await run(
          "openssl",
          [
            ...["smime", "-sign", "-binary", "-nodetach", "-nocerts", "-nosmimecap"],
            ...["-in", "document", "-signer", "cert.pem", "-inkey", "key.pem", "-md", md],
            ...["-outform", "DER", "-out", "signed.der"],
          ],
          { cwd: folder },
        );
        const base64 = (await readFile(join(folder, "signed.der"))).toString("base64");
        return base64.replaceAll(/.{64}/g, "$&\n");
      }),
  };
}

/** A role that an instance has, as STS knows it. */
export interface AwsRoleSession {
  readonly account: string;
  readonly role: string;
  readonly session: string;
  readonly accessKeyId: string;
  readonly secretKey: string;
  readonly sessionToken: string;
}

/** AWS STS with GetCallerIdentity alone, which checks the signature. */
export async function startAwsSts(
  sessions: readonly AwsRoleSession[],
  region = "eu-west-1",
): Promise<StoreServer> {
  return startStoreServer((call) => {
    const of = (accessKeyId: string) => sessions.find((one) => one.accessKeyId === accessKeyId);
    const verdict = checkSigv4(call, {
      service: "sts",
      region,
      secretKeyOf: (id) => of(id)?.secretKey,
      sessionTokenOf: (id) => of(id)?.sessionToken,
      nowMs: Date.now(),
    });
    const fault = (Code: string, Message = ""): { status: number; body: object } => ({
      status: 403,
      body: { Error: { Code, Message } },
    });
    if (verdict.error !== undefined) return fault(verdict.error, verdict.message);
    if (call.body.toString("utf8") !== "Action=GetCallerIdentity&Version=2011-06-15")
      return fault("InvalidAction");
    const id = /Credential=([^/]+)\//.exec(String(call.headers.authorization))?.[1] ?? "";
    const caller = of(id);
    if (caller === undefined) return fault("InvalidClientTokenId");
    const { account, role, session } = caller;
    const result = {
      Account: account,
      Arn: `arn:aws:sts::${account}:assumed-role/${role}/${session}`,
      UserId: `AROAEXAMPLE:${session}`,
    };
    return {
      status: 200,
      body: { GetCallerIdentityResponse: { GetCallerIdentityResult: result, ResponseMetadata: {} } },
    };
  });
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "mig-aws-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
