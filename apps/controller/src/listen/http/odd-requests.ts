import type { Duplex } from "node:stream";
import { uuid7 } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { FastifyRequest } from "fastify";
import type { FastifySchemaValidationError } from "fastify/types/schema.js";
import { renderError } from "../error.ts";
import { commonHeaders, isSecure, secureHeaders } from "./headers.ts";

/**
 * Requests that Node's parser lets pass and that nobody honest sends: two Host headers, two Authorization headers (Node
 * takes the first, a proxy may have checked the second), a target that names another host, dots and NUL hidden in percent signs, bodies in an encoding that we would not decode
 * (reliability-security §5.2). A proxy in front may read them differently than we do, so they are refused whole.
 */
export function refuseOddRequest({ raw, originalUrl, headers }: FastifyRequest): void {
  if (!originalUrl.startsWith("/")) throw new MigError("invalid_request", "the target is a path, not a URL");
  const hosts = countOf(raw, "host");
  if (hosts > 1 || (hosts === 0 && raw.httpVersion === "1.1")) {
    throw new MigError("invalid_request", `there are ${hosts} Host headers; HTTP/1.1 has one`);
  }
  if (countOf(raw, "authorization") > 1)
    throw new MigError("invalid_request", "there is more than one Authorization header");
  const path = originalUrl.split("?", 1)[0] ?? "";
  if (/%2f|%5c|%00|\\/i.test(path) || /(?:^|\/)(?:\.|%2e){1,2}(?:\/|$)/i.test(path)) {
    throw new MigError("invalid_request", "the path hides a separator, a dot segment or NUL");
  }
  const encoding = headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") {
    throw new MigError("unsupported_media_type", "send the body without content-encoding");
  }
}

function countOf({ rawHeaders }: FastifyRequest["raw"], name: string): number {
  return rawHeaders.filter((text, i) => i % 2 === 0 && text.toLowerCase() === name).length;
}

/** The deepest of the complaints: with alternatives in a schema the outer ones only say that none fits. */
export function messageOfSchemaErrors(
  errors: readonly FastifySchemaValidationError[],
  where: string,
): string {
  const deepest = errors.toSorted((a, b) => b.instancePath.length - a.instancePath.length)[0];
  const place = `${where}${(deepest?.instancePath ?? "").slice(0, 200)}`;
  const missing =
    deepest?.keyword === "pattern" ? "is not an id or a word of the right form" : deepest?.message;
  return `${place} ${missing ?? "is not of the right form"}`;
}

const broken: Readonly<Record<string, { status: number; reason: string; message: string }>> = {
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: 408,
    reason: "Request Timeout",
    message: "the request did not come whole in time",
  },
  HPE_HEADER_OVERFLOW: {
    status: 431,
    reason: "Request Header Fields Too Large",
    message: "the head is larger than 16 KiB",
  },
};

/** What cannot be parsed never becomes a request: it is answered on the socket, in the same shape, and closed. */
export function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === "ECONNRESET" || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const { status, reason, message } = broken[error.code ?? ""] ?? {
    status: 400,
    reason: "Bad Request",
    message: "this is not an HTTP/1.1 request",
  };
  const requestId = uuid7();
  const body = JSON.stringify(renderError(new MigError("invalid_request", message), requestId).body);
  const secure = isSecure(socket) ? secureHeaders : {};
  const headers = {
    ...commonHeaders(requestId),
    ...secure,
    "content-type": "application/json; charset=utf-8",
  };
  const head = Object.entries({
    ...headers,
    "content-length": String(Buffer.byteLength(body)),
    connection: "close",
  });
  const lines = head.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.end(`HTTP/1.1 ${status} ${reason}\r\n${lines}\r\n${body}`, () => socket.destroy());
}
