import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { Clock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { explainFailure } from "./explain-failure.ts";
import { readAnswer } from "./http-answer.ts";
import { createEventReader, type StreamEvent } from "./sse-events.ts";
import { type TlsMaterial, tlsRules } from "./tls-material.ts";
import { explainWrongAnswer } from "./wrong-answer.ts";

export interface SseCallSettings {
  url: URL;
  token: string | undefined;
  tls: TlsMaterial;
  /** The last event that was seen on an earlier stream. */
  lastId: string | undefined;
  /** Without a byte for so long the connection is dead; the server says something more often. */
  silentMs: number;
  clock: Clock;
  onEvent(event: StreamEvent): void;
  /** Once, whatever ended the call. */
  onEnd(reason: MigError): void;
}

/** One GET that does not end, on a connection of its own. The returned function ends it. */
export function startSseCall(settings: SseCallSettings): () => void {
  const { url, token, tls, lastId, silentMs, clock, onEvent, onEnd } = settings;
  const isTls = url.protocol === "https:";
  let hasEnded = false;
  let cancelWatchdog = (): void => {};

  const end = (reason: MigError): void => {
    if (hasEnded) return;
    hasEnded = true;
    cancelWatchdog();
    request.destroy();
    onEnd(reason);
  };
  const endWith = (why: string): void =>
    end(new MigError("controller_unreachable", `The event stream from ${url.host} ended: ${why}.`));
  const watch = (): void => {
    cancelWatchdog();
    cancelWatchdog = clock.after(silentMs, () => endWith(`nothing came for ${silentMs} ms`));
  };

  const request = (isTls ? requestHttps : requestHttp)(url, {
    agent: false,
    ...(isTls ? { ...tls, ...tlsRules } : {}),
    headers: {
      accept: "text/event-stream",
      "cache-control": "no-store",
      "user-agent": "miglet",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(lastId === undefined ? {} : { "last-event-id": lastId }),
    },
  });
  request.on("error", (error) => endWith(explainFailure(error)));
  request.on("response", (message) => {
    const isStream = /^text\/event-stream\b/i.test(message.headers["content-type"] ?? "");
    if (message.statusCode === 200 && isStream) follow(message);
    else
      readAnswer(message).then(
        (answer) => end(explainWrongAnswer(url, answer, "an event stream")),
        (error: unknown) => endWith(explainFailure(error)),
      );
  });
  request.end();

  function follow(message: IncomingMessage): void {
    const read = createEventReader((event) => {
      if (!hasEnded) onEvent(event);
    });
    message.setEncoding("utf8");
    message.on("data", (text: string) => {
      if (hasEnded) return;
      watch();
      const problem = read(text);
      if (problem !== undefined) endWith(problem);
    });
    message.on("end", () => endWith("the controller ended it"));
    message.on("error", (error) => endWith(explainFailure(error)));
    message.on("close", () => endWith("the connection broke"));
    watch();
  }
  return () => endWith("closed by us");
}
