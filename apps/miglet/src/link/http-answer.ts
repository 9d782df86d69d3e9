import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { type ErrorCode, errorCodes, MigError } from "@mig/lifecycle";
import { asObject, limits, maybe, readNumber, readText } from "@mig/protocol";
import { boundHint } from "./bound-hint.ts";

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

/** Reads a body to its end, or cuts it off where it is longer than any answer may be (go-agent-wire A29). */
export function readAnswer(message: IncomingMessage): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    message.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limits.messageBytesMax) chunks.push(chunk);
      else {
        chunks.length = 0;
        message.destroy();
        reject(
          new MigError(
            "payload_too_large",
            `An answer of more than ${limits.messageBytesMax} bytes was cut off.`,
          ),
        );
      }
    });
    message.on("end", () =>
      resolve({
        status: message.statusCode ?? 0,
        headers: message.headers,
        text: Buffer.concat(chunks).toString("utf8"),
      }),
    );
    message.on("error", reject);
    // A body that ends before its length does so without an error on some runtimes.
    message.on("close", () => reject(new Error("the answer was cut off (ECONNRESET)")));
  });
}

export function parseBody(text: string, url: URL): unknown {
  if (text.trim() === "") return {};
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MigError("controller_unreachable", `${url.host} answered something that is not JSON.`, {
      cause,
    });
  }
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: "invalid_request",
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  410: "incarnation_lost",
  413: "payload_too_large",
  422: "refused",
  429: "rate_limited",
};

/** What an answer that is not 2xx says: its own code where it is one of ours, else what its status means. */
export function errorOf({ status, headers, text }: HttpAnswer, url: URL): MigError {
  let said: ReturnType<typeof asObject>;
  try {
    said = asObject(asObject(JSON.parse(text))?.["error"]);
  } catch {
    // Not one of our controllers, or a proxy between.
  }
  const saidCode = said === undefined ? undefined : readText(said, "code");
  const code =
    saidCode !== undefined && Object.hasOwn(errorCodes, saidCode)
      ? (saidCode as ErrorCode)
      : (codeOfStatus[status] ?? (status >= 500 ? "controller_unreachable" : "controller_refused"));
  const hintMs = boundHint(
    (said === undefined ? undefined : readNumber(said, "retry_after_ms")) ?? readRetryAfter(headers),
  );
  const words = (said === undefined ? undefined : readText(said, "message")) ?? `HTTP ${status}`;
  return new MigError(code, `${url.host} answered ${status} to ${url.pathname}: ${words}`, {
    ...maybe("retryAfterMs", hintMs),
  });
}

/**
 * Retry-After in either form of RFC 9110 §10.2.3. A date is read beside the Date of the same answer, because this VM's
 * clock may be days wrong; without one it says nothing.
 */
export function readRetryAfter(headers: IncomingHttpHeaders): number | undefined {
  const hint = headers["retry-after"]?.trim();
  if (hint === undefined) return undefined;
  if (/^\d{1,15}$/.test(hint)) return Number(hint) * 1000;
  const untilMs = Date.parse(hint) - Date.parse(headers.date ?? "");
  return Number.isFinite(untilMs) ? untilMs : undefined;
}
