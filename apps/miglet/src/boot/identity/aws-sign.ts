import { createHash, createHmac } from "node:crypto";

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretKey: string;
  readonly sessionToken: string;
}

const body = "Action=GetCallerIdentity&Version=2011-06-15";

/**
 * A GetCallerIdentity that is signed and not sent (AWS Signature Version 4): the controller sends it and hears whose it
 * is. The challenge is among the signed headers, so it is good for one join. One request of one shape: a library for
 * every service costs more memory than all that the agent does with it.
 */
export function signCallerIdentity(
  { accessKeyId, secretKey, sessionToken }: AwsCredentials,
  { region, challenge, atMs }: { readonly region: string; readonly challenge: string; readonly atMs: number },
): { url: string; headers: Record<string, string> } {
  const host = `sts.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
  const at = new Date(atMs).toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const day = at.slice(0, 8);
  // In the order of their names, as the canonical request wants them.
  const headers: Record<string, string> = {
    "content-type": "application/x-www-form-urlencoded; charset=utf-8",
    host,
    "x-amz-date": at,
    "x-amz-security-token": sessionToken,
    "x-mig-challenge": challenge,
  };
  const names = Object.keys(headers).join(";");
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const canonical = ["POST", "/", "", lines.join(""), names, sha256(body)].join("\n");
  const scope = `${day}/${region}/sts/aws4_request`;
  const key = [day, region, "sts", "aws4_request"].reduce<Buffer | string>(hmac, `AWS4${secretKey}`);
  const signature = hmac(key, ["AWS4-HMAC-SHA256", at, scope, sha256(canonical)].join("\n")).toString("hex");
  const credential = `Credential=${accessKeyId}/${scope}`;
  return {
    url: `https://${host}/`,
    headers: {
      ...headers,
      authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${names}, Signature=${signature}`,
    },
  };
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: Buffer | string, text: string): Buffer => createHmac("sha256", key).update(text).digest();
