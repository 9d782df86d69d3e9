import { type IncomingHttpHeaders, request } from "node:http";
import { request as requestTls } from "node:https";
import { waitFor } from "@mig/kit";

export interface SseEvent {
  event: string;
  id: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: tests read events key by key
  data: any;
}

export interface DialledSse extends AsyncDisposable {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Everything that came, and what of it are whole events. */
  text(): string;
  events(): SseEvent[];
  readonly ended: Promise<void>;
  next(event: string): Promise<SseEvent>;
  /** Stops reading. */
  pause(): void;
  resume(): void;
}

/** GET of an event stream with nothing of an agent in it. */
export function dialSse(url: string, headers: Record<string, string> = {}, ca?: string): Promise<DialledSse> {
  return new Promise((resolve, reject) => {
    const call =
      ca === undefined
        ? request(url, { headers, agent: false })
        : requestTls(url, { headers, agent: false, ca });
    call.on("error", reject);
    call.on("response", (message) => {
      let text = "";
      let returned = 0;
      message.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      message.on("error", () => {}); // the end tells
      const ended = new Promise<void>((done) => message.on("close", done));
      const events = (): SseEvent[] =>
        text
          .split("\n\n")
          .slice(0, -1)
          .flatMap((block) => {
            const field = (name: string): string | undefined =>
              new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
            const event = field("event");
            return event === undefined
              ? []
              : [{ event, id: field("id"), data: JSON.parse(field("data") ?? "null") }];
          });
      resolve({
        status: message.statusCode ?? 0,
        headers: message.headers,
        text: () => text,
        events,
        ended,
        async next(event) {
          const at = await waitFor(`a ${event}; heard ${text.slice(-300)}`, () => {
            const found = events().findIndex((one, i) => i >= returned && one.event === event);
            return found < 0 ? undefined : found + 1;
          });
          returned = at;
          return events()[at - 1] ?? { event: "", id: undefined, data: undefined };
        },
        pause: () => void message.pause(),
        resume: () => void message.resume(),
        async [Symbol.asyncDispose]() {
          call.destroy();
          message.resume();
          await ended;
        },
      });
    });
    call.end();
  });
}
