import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { openTunnel } from "./tunnel.ts";

export interface PartRequest {
  url: URL;
  /** Bytes that are there already; asked for from here on. */
  from: number;
  /** Of what is there: the server sends the rest only of the same file. */
  tag?: string | undefined;
  proxy?: URL | undefined;
  ca?: string | undefined;
  idleMs: number;
  signal: AbortSignal;
}

export interface Part {
  /** False: the server begins at the beginning. */
  isRest: boolean;
  tag: string | undefined;
  /** Of the whole file; undefined when the server does not say. */
  totalBytes: number | undefined;
  body: IncomingMessage;
}

/** What a server said instead of sending the file. */
export class Refused extends Error {
  readonly status: number;
  constructor(status: number, url: URL) {
    super(`${url.host} answered ${status}`);
    this.status = status;
  }
}

const redirectsMax = 5;

/** Asks for the file, or the rest of it, following redirects; never from https to http. */
export async function fetchPart(wanted: PartRequest): Promise<Part> {
  let { url } = wanted;
  for (let hop = 0; hop <= redirectsMax; hop += 1) {
    const response = await send({ ...wanted, url });
    const { statusCode = 0, headers } = response;
    if (statusCode === 200 || statusCode === 206) return partOf(response, wanted.from);
    response.destroy();
    const next = headers.location;
    if (
      ![301, 302, 303, 307, 308].includes(statusCode) ||
      next === undefined ||
      !URL.canParse(next, url.href)
    )
      throw new Refused(statusCode, url);
    const target = new URL(next, url);
    if (!/^https?:$/.test(target.protocol) || (url.protocol === "https:" && target.protocol !== "https:"))
      throw new Refused(statusCode, url);
    url = target;
  }
  throw new Refused(310, url);
}

function partOf(response: IncomingMessage, from: number): Part {
  const { statusCode, headers } = response;
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers["content-range"] ?? "");
  const isRest = statusCode === 206 && range !== null && Number(range[1]) === from;
  if (statusCode === 206 && !isRest) {
    response.destroy();
    throw new Error("the server sent another part than the one that was asked for");
  }
  const length = Number(headers["content-length"] ?? Number.NaN);
  const total = isRest ? Number(range?.[2]) : length;
  // A weak one says that files are alike, not that they are the same (RFC 9110 §8.8.1).
  const tag = headers.etag?.startsWith('"') === true ? headers.etag : headers["last-modified"];
  return { isRest, tag, totalBytes: Number.isSafeInteger(total) ? total : undefined, body: response };
}

async function send(wanted: PartRequest): Promise<IncomingMessage> {
  const { url, from, tag, proxy, ca, idleMs, signal } = wanted;
  const isTls = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = url.port === "" ? (isTls ? 443 : 80) : Number(url.port);
  const headers: Record<string, string> = { host: url.host, "accept-encoding": "identity" };
  if (from > 0 && tag !== undefined) Object.assign(headers, { range: `bytes=${from}-`, "if-range": tag });
  const tunnel = isTls && proxy !== undefined ? await openTunnel(proxy, { host, port }) : undefined;
  const via =
    tunnel !== undefined
      ? { host: "127.0.0.1", port: tunnel.port, servername: host }
      : proxy !== undefined
        ? { host: proxy.hostname, port: Number(proxy.port === "" ? 80 : proxy.port) }
        : { host, port };
  const path = proxy !== undefined && !isTls ? url.href : `${url.pathname}${url.search}`;
  const options = { ...via, path, headers, agent: false as const, signal };
  return new Promise((resolve, reject) => {
    const request = isTls
      ? httpsRequest({ ...options, ...(ca === undefined ? {} : { ca }), rejectUnauthorized: true })
      : httpRequest(options);
    request.setTimeout(idleMs, () => request.destroy(new Error(`nothing came for ${idleMs} ms`)));
    request.once("error", reject);
    request.once("response", resolve);
    request.once("close", () => tunnel?.close());
    request.end();
  });
}
