import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { StoreCall } from "./store-server.ts";

/**
 * AWS Signature Version 4, as a service checks it ("Signature Version 4 signing process"). Written from the document
 * and not with AWS's library, so that it can find the library's caller wrong.
 */
export interface Sigv4Verdict {
  /** AWS's name of what is wrong; undefined when the request is signed well. */
  error?:
    | "MissingAuthenticationTokenException"
    | "IncompleteSignatureException"
    | "UnrecognizedClientException"
    | "InvalidSignatureException"
    | "ExpiredTokenException";
  message?: string;
}

export interface Sigv4Rules {
  service: string;
  region: string;
  secretKeyOf(accessKeyId: string): string | undefined;
  sessionTokenOf(accessKeyId: string): string | undefined;
  nowMs: number;
}

const skewMaxMs = 5 * 60_000;

export function checkSigv4(call: StoreCall, rules: Sigv4Rules): Sigv4Verdict {
  const { headers } = call;
  const header = (name: string): string => {
    const value = headers[name];
    return Array.isArray(value) ? value.join(",") : (value ?? "");
  };
  if (header("authorization") === "")
    return { error: "MissingAuthenticationTokenException", message: "Missing Authentication Token" };
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^/,]+)\/(\d{8})\/([^/,]+)\/([^/,]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
      header("authorization"),
    );
  if (parts === null)
    return { error: "IncompleteSignatureException", message: "Authorization header is not as it must be" };
  const [, accessKeyId = "", day = "", region = "", service = "", signedNames = "", signature = ""] = parts;
  const secretKey = rules.secretKeyOf(accessKeyId);
  if (secretKey === undefined)
    return {
      error: "UnrecognizedClientException",
      message: "The security token included in the request is invalid.",
    };
  const wrong = (message: string): Sigv4Verdict => ({ error: "InvalidSignatureException", message });
  if (region !== rules.region)
    return wrong(`Credential should be scoped to a valid region. Expected ${rules.region}`);
  if (service !== rules.service)
    return wrong(`Credential should be scoped to correct service: '${rules.service}'.`);

  const at = header("x-amz-date");
  const atMs = Date.parse(at.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (!at.startsWith(day) || Number.isNaN(atMs))
    return wrong("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP");
  if (Math.abs(rules.nowMs - atMs) > skewMaxMs)
    return wrong(`Signature expired: ${at} is now earlier than the server's time allows`);
  const expectedToken = rules.sessionTokenOf(accessKeyId);
  if (header("x-amz-security-token") !== (expectedToken ?? ""))
    return {
      error: "UnrecognizedClientException",
      message: "The security token included in the request is invalid.",
    };

  const names = signedNames.split(";");
  const mustBeSigned = [
    "host",
    "x-amz-date",
    ...Object.keys(headers).filter((name) => name.startsWith("x-amz-")),
  ];
  const missing = mustBeSigned.find((name) => !names.includes(name));
  if (missing !== undefined) return wrong(`'${missing}' must be a signed header`);
  const payloadHash = sha256(call.body);
  const sentHash = header("x-amz-content-sha256");
  if (sentHash !== "" && sentHash !== payloadHash)
    return wrong("The provided 'x-amz-content-sha256' header does not match what was computed.");
  const query = [...call.url.searchParams]
    .map(([name, value]) => `${escape4(name)}=${escape4(value)}`)
    .sort()
    .join("&");
  const canonical = [
    call.method,
    call.url.pathname,
    query,
    ...names.map((name) => `${name}:${header(name).trim().replaceAll(/ +/g, " ")}`),
    "",
    signedNames,
    payloadHash,
  ].join("\n");
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", at, scope, sha256(canonical)].join("\n");
  const key = [day, region, service, "aws4_request"].reduce<Buffer | string>(
    (secret, word) => hmac(secret, word),
    `AWS4${secretKey}`,
  );
  const expected = hmac(key, text);
  if (!timingSafeEqual(expected, Buffer.from(signature, "hex")))
    return wrong(
      "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
    );
  return {};
}

const sha256 = (data: Buffer | string): string => createHash("sha256").update(data).digest("hex");
const hmac = (key: Buffer | string, data: string): Buffer => createHmac("sha256", key).update(data).digest();
const escape4 = (text: string): string =>
  encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
