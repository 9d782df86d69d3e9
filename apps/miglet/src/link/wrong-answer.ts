import type { IncomingHttpHeaders } from "node:http";
import { errorCodes, MigError } from "@mig/lifecycle";
import { asObject, maybe, readText } from "@mig/protocol";
import { errorOf } from "./http-answer.ts";

export interface WrongAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

/**
 * An answer to a request that should have become a stream. Only what a controller says itself is about this VM; a proxy
 * that knows no streams may answer anything, and another channel may well get through it.
 */
export function explainWrongAnswer(url: URL, answer: WrongAnswer, wanted: string): MigError {
  const error = errorOf(answer, url);
  return isOurs(answer.text) ? error : insteadOf(wanted, url, `HTTP ${answer.status}`, error);
}

export function insteadOf(wanted: string, url: URL, what: string, cause?: MigError): MigError {
  return new MigError("controller_unreachable", `${url.host} answers ${what} instead of opening ${wanted}.`, {
    cause,
    ...maybe("retryAfterMs", cause?.retryAfterMs),
  });
}

function isOurs(text: string): boolean {
  try {
    const said = asObject(asObject(JSON.parse(text))?.["error"]);
    const code = said === undefined ? undefined : readText(said, "code");
    return code !== undefined && Object.hasOwn(errorCodes, code);
  } catch {
    return false;
  }
}
