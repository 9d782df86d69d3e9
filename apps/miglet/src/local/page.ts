import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Log } from "@mig/kit";
import type { JsonObject } from "@mig/protocol";
import { type Figures, renderMetrics } from "./metrics.ts";

export interface LocalPage {
  /** Where it answers; undefined when the port was taken. */
  port: number | undefined;
  close(): Promise<void>;
}

export interface LocalPageSettings {
  /** On loopback: boot/settings takes nothing else. */
  listen: string;
  figures(): Figures;
  /** What `miglet status` shows; without secrets. */
  status(): JsonObject;
  log: Log;
}

/**
 * GET /metrics for a Prometheus on this machine, /status for people, /healthz for whoever asks only whether the agent
 * is there. A page that cannot be opened is told and is no reason to end.
 */
export async function openLocalPage({ listen, figures, status, log }: LocalPageSettings): Promise<LocalPage> {
  const colon = listen.lastIndexOf(":");
  const host = listen.slice(0, colon).replace(/^\[|\]$/g, "");
  const server = createServer(
    { requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 5_000 },
    (request, response) => {
      response.setHeader("connection", "close");
      const answer = answerOf(request, figures, status);
      send(response, answer);
    },
  );
  server.maxConnections = 16;
  const port = await new Promise<number | undefined>((resolve) => {
    server.once("error", (error) => {
      log.warn({ error, listen }, "The local page cannot be opened: set metrics.listen to another port.");
      resolve(undefined);
    });
    server.listen(Number(listen.slice(colon + 1)), host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : undefined);
    });
  });
  server.unref();
  return { port, close: () => new Promise((done) => void server.close(() => done())) };
}

interface Answer {
  code: number;
  type: string;
  body: string;
}

const text = (code: number, body: string): Answer => ({
  code,
  type: "text/plain; charset=utf-8",
  body: `${body}\n`,
});

function answerOf(
  { method, url = "/", headers }: IncomingMessage,
  figures: () => Figures,
  status: () => JsonObject,
): Answer {
  // A page of another site that has its name point here (DNS rebinding) sends that name.
  if (!/^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/.test(headers.host ?? ""))
    return text(403, "This page is for this machine.");
  if (method !== "GET" && method !== "HEAD") return text(405, "Only GET and HEAD.");
  switch (url.split("?", 1)[0]) {
    case "/metrics":
      return { code: 200, type: "text/plain; version=0.0.4; charset=utf-8", body: renderMetrics(figures()) };
    case "/status":
      return { code: 200, type: "application/json", body: `${JSON.stringify(status(), null, 2)}\n` };
    case "/healthz":
      return text(200, "ok");
    default:
      return text(404, "There are /metrics, /status and /healthz.");
  }
}

function send(response: ServerResponse, { code, type, body }: Answer): void {
  response.writeHead(code, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.end(body);
}
