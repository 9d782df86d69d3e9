import { Agent, type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from "node:http";
import { systemClock } from "@mig/kit";

export interface MetadataQuestion {
  readonly method?: "GET" | "PUT";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** For the question, its retry included. */
  readonly timeoutMs: number;
  /** 1 for a question that is held: asking again would only lose what was waited for. */
  readonly attemptsMax?: 1 | 2;
  readonly signal?: AbortSignal;
}

export interface MetadataAnswer {
  /** 0: there was none; `why` says it. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly why?: string;
  readonly isTooLarge?: boolean;
}

export interface MetadataService {
  /** Never rejects. */
  ask(question: MetadataQuestion): Promise<MetadataAnswer>;
  close(): void;
}

/** What GCP allows for one value; user data of AWS has at most 16 KiB. */
export const metadataBytesMax = 256 * 1024;

/**
 * Questions to a metadata service: plain HTTP to one address. An agent of its own, so that no proxy of the environment
 * is ever used (a proxy would answer for its own machine); no redirects; bounded in time and size. One more attempt
 * within the time when there is no answer, because the service is slow while a machine boots.
 */
export function openMetadataService(endpoint: string): MetadataService {
  const base = new URL(endpoint);
  const agent = new Agent({ keepAlive: true, maxSockets: 4, maxFreeSockets: 2 });
  return {
    async ask(question) {
      const untilMs = systemClock.monotonicMs() + question.timeoutMs;
      const attempts = question.attemptsMax ?? 2;
      for (let attempt = 1; ; attempt += 1) {
        const leftMs = untilMs - systemClock.monotonicMs();
        // A first attempt that hangs must leave the second one something.
        const answer = await askOnce(agent, base, question, attempt < attempts ? leftMs * 0.6 : leftMs);
        const isFinal = answer.isTooLarge === true || (answer.status > 0 && answer.status < 500);
        const isOver = systemClock.monotonicMs() >= untilMs || question.signal?.aborted === true;
        if (isFinal || attempt >= attempts || isOver) return answer;
      }
    },
    close: () => agent.destroy(),
  };
}

function askOnce(
  agent: Agent,
  base: URL,
  { method = "GET", path, headers = {}, signal }: MetadataQuestion,
  withinMs: number,
): Promise<MetadataAnswer> {
  return new Promise((resolve) => {
    const finish = (answer: MetadataAnswer): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
      resolve(answer);
    };
    const none = (why: string, isTooLarge = false): void => {
      finish({ status: 0, headers: {}, body: Buffer.alloc(0), why, isTooLarge });
      request.destroy();
    };
    const giveUp = (): void => none("was given up");
    const timer = setTimeout(() => none(`no answer in ${Math.round(withinMs)} ms`), Math.max(1, withinMs));
    const request = requestHttp(new URL(path, base), { method, headers, agent });
    request.on("error", (error: NodeJS.ErrnoException) => none(error.code ?? error.message));
    request.on("response", (message: IncomingMessage) => {
      const chunks: Buffer[] = [];
      let size = 0;
      message.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > metadataBytesMax) none(`more than ${metadataBytesMax} bytes`, true);
        else chunks.push(chunk);
      });
      message.on("error", (error: NodeJS.ErrnoException) => none(error.code ?? error.message));
      message.on("aborted", () => none("the answer was cut off"));
      message.on("end", () => {
        if (message.complete)
          finish({ status: message.statusCode ?? 0, headers: message.headers, body: Buffer.concat(chunks) });
        else none("the answer was cut off");
      });
    });
    if (signal?.aborted === true) giveUp();
    else signal?.addEventListener("abort", giveUp, { once: true });
    request.end();
  });
}
