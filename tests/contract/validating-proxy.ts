import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from "node:http";
import type { AddressInfo } from "node:net";
import type { Description } from "./description.ts";

/** Stands between a client and the stand-in and holds both to GitHub's description, byte for byte otherwise. */
export interface ValidatingProxy extends AsyncDisposable {
  readonly url: string;
  /** What was wrong since it was last asked for, with the route that it was wrong with. */
  takeProblems(): string[];
  /** "GET /orgs/{org}/actions/runners" → the statuses that were seen. */
  readonly seen: ReadonlyMap<string, ReadonlySet<number>>;
}

/** Refusals that GitHub gives on any route, without describing them there (runner-contract §8.2, §8.5, §8.6). */
const anywhere = new Set([400, 401, 403, 404, 422, 429]);

export async function startValidatingProxy(
  target: string,
  description: Description,
  prefix: string,
): Promise<ValidatingProxy> {
  const problems: string[] = [];
  const seen = new Map<string, Set<number>>();
  const server = createServer(async (request, response) => {
    const { method = "GET", url = "/", headers } = request;
    const sent = await bytesOf(request);
    const forwarded = httpRequest(target + url, { method, headers }, async (answer) => {
      const body = await bytesOf(answer);
      judge(method, url, headers, sent, answer, body);
      response.writeHead(answer.statusCode ?? 0, answer.headers).end(body);
    });
    forwarded.on("error", () => response.destroy());
    forwarded.end(sent);
  });

  function judge(
    method: string,
    url: string,
    headers: IncomingHttpHeaders,
    sent: Buffer,
    answer: IncomingMessage,
    body: Buffer,
  ): void {
    const { pathname, searchParams } = new URL(url, target);
    // Where a renamed repository's old name leads to; described nowhere, followed by everyone.
    const path = pathname.slice(prefix.length).replace(/^\/repositories\/\d+/, "/repos/acme/renamed");
    const operation = description.find(method, path);
    const status = answer.statusCode ?? 0;
    if (!pathname.startsWith(`${prefix}/`) || operation === undefined) {
      problems.push(`${method} ${pathname} is not in GitHub's description`);
      return;
    }
    const route = `${method} ${operation.template}`;
    seen.set(route, (seen.get(route) ?? new Set()).add(status));
    const tell = (found: readonly string[]): void => {
      problems.push(...found.map((problem) => `${route} (${status}): ${problem}`));
    };
    if (!operation.isForApps) tell(["GitHub Apps may not call it"]);
    tell(operation.checkAddress(path, searchParams));
    tell(judgeHeaders(headers, operation.template));
    tell(judgeSent(operation.checkBody, headers, sent));
    tell(judgeAnswer(operation.answers, description, answer, body));
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    takeProblems: () => problems.splice(0),
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function judgeHeaders(headers: IncomingHttpHeaders, template: string): string[] {
  const [word, token = ""] = (headers.authorization ?? "").split(" ");
  const isJwt = token.startsWith("ey") && token.split(".").length === 3;
  const wantsJwt = template.startsWith("/app") || template.endsWith("/installation");
  return [
    ...(headers.accept === "application/vnd.github+json" ? [] : [`accept is ${headers.accept}`]),
    ...(headers["x-github-api-version"] === "2022-11-28" ? [] : ["x-github-api-version is not 2022-11-28"]),
    ...(headers["user-agent"] ? [] : ["there is no user-agent"]),
    ...(word === "Bearer" ? [] : [`authorization is ${word}`]),
    ...(template === "/rate_limit" || isJwt === wantsJwt
      ? []
      : [`it wants ${wantsJwt ? "a JWT" : "an installation token"}`]),
  ];
}

function judgeSent(
  check: ((value: unknown) => string[]) | undefined,
  headers: IncomingHttpHeaders,
  sent: Buffer,
): string[] {
  if (sent.length === 0) return [];
  if (check === undefined) return [`it takes no body and was sent ${sent.length} bytes`];
  if (!/^application\/json(?:;|$)/.test(headers["content-type"] ?? "")) return ["content-type is not JSON"];
  return check(JSON.parse(sent.toString("utf8"))).map((problem) => `sent: ${problem}`);
}

function judgeAnswer(
  answers: ReadonlyMap<number, ((value: unknown) => string[]) | null>,
  description: Description,
  answer: IncomingMessage,
  body: Buffer,
): string[] {
  const status = answer.statusCode ?? 0;
  const check = answers.get(status);
  if (check === null || status === 304)
    return body.length === 0 ? [] : ["an answer that has no body has one"];
  if (!/^application\/json(?:;|$)/.test(answer.headers["content-type"] ?? ""))
    return ["the answer is not JSON"];
  const value: unknown = JSON.parse(body.toString("utf8"));
  if (check !== undefined) return check(value).map((problem) => `answered: ${problem}`);
  const isMoved = status === 307 && answer.headers.location !== undefined;
  if (!isMoved && !anywhere.has(status)) return [`the status ${status} is not described`];
  const problems = description.checkRefusal(isMoved ? { status: "307", ...(value as object) } : value);
  return problems.map((problem) => `refused: ${problem}`);
}

async function bytesOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
