import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { MigError } from "@mig/lifecycle";
import { asObject, readText } from "@mig/protocol";

/** Who signed a GetCallerIdentity, in AWS's own words. */
export interface AwsCaller {
  readonly account: string;
  readonly role: string;
  /** Of an instance profile: the instance's id. */
  readonly session: string;
}

export interface SignedCall {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Signed with the others, so that the call is good for one join only. */
const challengeHeader = "x-mig-challenge";
const body = "Action=GetCallerIdentity&Version=2011-06-15";
const mustBeSigned = ["host", "x-amz-date", challengeHeader];
const maySend = new Set([...mustBeSigned, "authorization", "x-amz-security-token", "content-type", "accept"]);
const answerBytesMax = 64 * 1024;
const timeoutMs = 5_000;

/**
 * A VM signs a GetCallerIdentity and does not send it; we do, and AWS says whose signature it is (as Vault and Teleport
 * do). So that it can be nothing else: always the same method, path and body, to an endpoint of AWS's STS and nowhere
 * else, with our challenge among the signed headers. `endpoint` is where the stand-in of a test listens.
 */
export async function askAwsCaller(
  call: SignedCall,
  challenge: string,
  endpoint?: string,
): Promise<AwsCaller> {
  const headers = checkHeaders(call, challenge);
  const answer = await send(new URL(endpoint ?? call.url), headers);
  if (answer.status >= 500 || answer.status === 429)
    throw new MigError("identity_unavailable", `AWS STS answered ${answer.status}`, { retryAfterMs: 5_000 });
  if (answer.status !== 200) throw refusal(`AWS STS does not accept the signature (${answer.status})`);
  return readCaller(answer.text);
}

function checkHeaders({ url, headers: given }: SignedCall, challenge: string): Record<string, string> {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target === undefined || target.protocol !== "https:" || target.pathname !== "/" || target.search !== "")
    throw refusal("its URL is https://sts.REGION.amazonaws.com/");
  if (!/^sts\.(?:[a-z]{2}(?:-[a-z]{1,12}){1,3}-\d\.)?amazonaws\.com(?:\.cn)?$/.test(target.host))
    throw refusal(`${target.host.slice(0, 80)} is no endpoint of AWS STS`);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const lower = name.toLowerCase();
    if (!maySend.has(lower) || lower in headers) throw refusal(`it has a header ${lower.slice(0, 40)}`);
    if (!/^[ -~]{0,8192}$/.test(value)) throw refusal(`its header ${lower} is not plain text`);
    headers[lower] = value;
  }
  if (headers["host"] !== undefined && headers["host"] !== target.host)
    throw refusal("its host is not its URL's");
  headers["host"] = target.host;
  headers["accept"] ??= "application/json";
  const signed = /^AWS4-HMAC-SHA256 .*\bSignedHeaders=([a-z0-9;-]+)/.exec(headers["authorization"] ?? "");
  const names = signed?.[1]?.split(";") ?? [];
  const missing = mustBeSigned.find((name) => !names.includes(name));
  if (missing !== undefined) throw refusal(`its signature does not cover ${missing}`);
  if (headers[challengeHeader] !== challenge) throw refusal("it answers another challenge");
  return headers;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** No redirects, no proxy of the environment, bounded in time and size. */
function send(target: URL, headers: Record<string, string>): Promise<Answer> {
  const request = target.protocol === "http:" ? requestHttp : requestHttps;
  return new Promise<Answer>((resolve, reject) => {
    const fail = (cause: unknown): void =>
      reject(
        new MigError("identity_unavailable", `AWS STS does not answer at ${target.host}`, {
          cause,
          retryAfterMs: 5_000,
        }),
      );
    const sent = request(
      target,
      {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded; charset=utf-8", ...headers },
        signal: AbortSignal.timeout(timeoutMs),
        agent: false,
      },
      (answer: IncomingMessage) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        answer.on("error", fail);
        answer.on("data", (part: Buffer) => {
          bytes += part.length;
          if (bytes > answerBytesMax) answer.destroy(new Error("its answer is too large"));
          else parts.push(part);
        });
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }),
        );
      },
    );
    sent.on("error", fail);
    sent.end(body);
  });
}

function readCaller(text: string): AwsCaller {
  let result: ReturnType<typeof asObject>;
  try {
    const response = asObject(asObject(JSON.parse(text))?.["GetCallerIdentityResponse"]);
    result = asObject(response?.["GetCallerIdentityResult"]);
  } catch {
    // Told below.
  }
  const arn = result === undefined ? "" : (readText(result, "Arn") ?? "");
  const [, account = "", role = "", session = ""] =
    /^arn:aws(?:-[a-z-]+)?:sts::(\d{12}):assumed-role\/([\w+=,.@-]+)\/([\w+=,.@-]+)$/.exec(arn) ?? [];
  if (account === "") throw refusal("it is not signed by a role of an instance");
  return { account, role, session };
}

function refusal(why: string): MigError {
  return new MigError("unauthenticated", `the signed GetCallerIdentity is not good: ${why}`);
}
