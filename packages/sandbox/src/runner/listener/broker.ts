import { hostname } from "node:os";
import { type Answer, callServer } from "../call-server.ts";

export interface BrokerMessage {
  readonly messageType: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** An answer that is no success. */
export class BrokerError extends Error {
  readonly status: number;
  readonly errorKind: string;

  constructor(answer: Answer) {
    super(
      String(answer.body["message"] ?? `Response status code does not indicate success: ${answer.status}.`),
    );
    this.status = answer.status;
    this.errorKind = String(answer.body["errorKind"] ?? "");
  }
}

/** The broker and the run service as the Listener sees them. */
export class Broker {
  readonly #base: string;
  readonly #runService: string;
  readonly #authorization: string;
  readonly #version: string;
  #sessionId = "";

  constructor(serverUrlV2: string, clientId: string, version: string) {
    this.#base = serverUrlV2.endsWith("/") ? serverUrlV2 : `${serverUrlV2}/`;
    this.#runService = new URL("/run/", this.#base).href;
    // The real Listener signs an assertion with its key and gets a token for it.
    this.#authorization = `Bearer ${clientId}`;
    this.#version = version;
  }

  async openSession(agentName: string, signal: AbortSignal): Promise<void> {
    const agent = { name: agentName, version: this.#version, osDescription: process.platform };
    const body = { ownerName: `${hostname()} (PID: ${process.pid})`, agent };
    const answer = await this.#call("POST", `${this.#base}session`, body, signal);
    this.#sessionId = String(answer.body["sessionId"]);
  }

  async closeSession(): Promise<void> {
    await this.#call("DELETE", `${this.#base}session`, undefined, AbortSignal.timeout(30_000));
  }

  /** One long poll; null when it ended without a message. */
  async poll(status: "Online" | "Busy", signal: AbortSignal): Promise<BrokerMessage | null> {
    const query = new URLSearchParams({
      sessionId: this.#sessionId,
      status,
      runnerVersion: this.#version,
      os: process.platform,
      architecture: process.arch,
    });
    const answer = await this.#call("GET", `${this.#base}message?${query}`, undefined, signal);
    if (answer.status !== 200) return null;
    const body: unknown = JSON.parse(String(answer.body["body"] ?? "{}"));
    return { messageType: String(answer.body["messageType"]), body: body as Record<string, unknown> };
  }

  async acknowledge(requestId: string): Promise<void> {
    await this.#call("POST", `${this.#base}acknowledge`, { runnerRequestId: requestId, status: "Online" });
  }

  async acquire(requestId: string): Promise<Readonly<Record<string, unknown>>> {
    const body = { jobMessageId: requestId, runnerOS: process.platform };
    return (await this.#call("POST", `${this.#runService}acquirejob`, body)).body;
  }

  async renew(jobId: string): Promise<void> {
    await this.#call("POST", `${this.#runService}renewjob`, { planId: jobId, jobId });
  }

  async fail(jobId: string, annotation: string): Promise<void> {
    const body = { jobId, conclusion: "Failed", annotations: [annotation], reportedBy: "listener" };
    await this.#call("POST", `${this.#runService}completejob`, body);
  }

  async #call(method: string, url: string, body?: unknown, signal?: AbortSignal): Promise<Answer> {
    const answer = await callServer({
      method,
      url,
      authorization: this.#authorization,
      ...(body === undefined ? {} : { body }),
      ...(signal ? { signal } : {}),
    });
    if (answer.status >= 300) throw new BrokerError(answer);
    return answer;
  }
}
