import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { waitFor } from "@mig/kit";
import {
  answerFromJson,
  type CommandAnswer,
  eventFromJson,
  type JsonObject,
  type VmEvent,
} from "@mig/protocol";

/** The agent-facing HTTP API over one VM's life in memory: what a process test of the agent needs, and no more. */
export class TinyController {
  readonly events: VmEvent[] = [];
  readonly beats: JsonObject[] = [];
  readonly answers: CommandAnswer[] = [];
  /** While false, every request is answered 503. */
  isUp = true;
  /** A MIG controller registers a VM that says it is ready. */
  onReady: () => void = () => {};
  readonly #queue: { id: string; type: string; parameters: JsonObject }[] = [];
  readonly #answered = new Set<string>();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
  }

  static async open(): Promise<TinyController> {
    const controller = new TinyController();
    await new Promise<void>((resolve) => controller.#server.listen(0, "127.0.0.1", resolve));
    return controller;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  command(id: string, type: string, parameters: JsonObject = {}): void {
    this.#queue.push({ id, type, parameters });
  }

  types(): string[] {
    return this.events.map((event) => event.type);
  }

  eventOf(type: string): Promise<VmEvent> {
    return waitFor(`event ${type}; got ${this.types()}`, () =>
      this.events.find((event) => event.type === type),
    );
  }

  resultOf(id: string): Promise<CommandAnswer> {
    return waitFor(`the result of ${id}`, () =>
      this.answers.find((answer) => answer.commandId === id && answer.stage === "result"),
    );
  }

  reports(state: string): Promise<JsonObject> {
    return waitFor(`a heartbeat in ${state}`, () =>
      this.beats.findLast((beat) => beat["miglet_state"] === state),
    );
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    for await (const chunk of request) body += chunk;
    const json = body === "" ? {} : (JSON.parse(body) as JsonObject);
    const reply = (status: number, content: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(content));
    };
    const path = (request.url ?? "").replace(/\?.*$/, "");
    if (!this.isUp)
      return reply(503, { error: { code: "storage_unavailable", message: "away", category: "transient" } });
    if (path.endsWith("/events")) return reply(200, this.#takeEvents(json));
    if (path.endsWith("/heartbeat")) {
      this.beats.push(json);
      if (json["miglet_state"] === "ready") this.onReady();
      return reply(200, {
        status: "received",
        vm_id: "vm",
        message: "",
        next_interval_ms: 1_000,
        server_time_ms: Date.now(),
      });
    }
    const answered = /\/commands\/([^/]+)\/ack$/.exec(path);
    if (answered !== null) {
      this.answers.push(answerFromJson(json, answered[1]));
      this.#answered.add(answered[1] ?? "");
      return reply(200, {});
    }
    const next = (): unknown[] => this.#queue.filter(({ id }) => !this.#answered.has(id)).slice(0, 1);
    for (let n = 0; n < 40 && next().length === 0 && !response.destroyed; n += 1)
      await new Promise((resolve) => setTimeout(resolve, 25));
    reply(200, {
      vm_id: "vm",
      commands: next().map((one) => ({ ...(one as object), created_at: new Date().toISOString() })),
    });
  }

  #takeEvents(json: JsonObject): JsonObject {
    const list = Array.isArray(json["events"]) ? json["events"] : [json];
    for (const item of list) {
      const event = eventFromJson(item, { vmId: "vm", nowMs: Date.now() });
      if (event.seq === this.events.length + 1) this.events.push(event);
    }
    const incarnation = this.events[0]?.incarnation ?? "";
    return {
      status: "acknowledged",
      acknowledged: true,
      incarnation,
      up_to_seq: this.events.length,
      rejected: [],
    };
  }
}
