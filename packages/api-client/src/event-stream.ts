/** One server-sent event as it came (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export interface StreamedEvent {
  /** Absent where only a comment, an id or a pause came: a sign of life. */
  readonly event?: string;
  readonly id?: string;
  readonly data: string;
  readonly retryMs?: number;
}

const blockMax = 16 * 1024 * 1024;

/** The events of a body, and its comments as events without a name. Throws when one is endless. */
export async function* readEventStream(body: AsyncIterable<Uint8Array>): AsyncGenerator<StreamedEvent> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > blockMax) throw new Error("one event of the stream is too long");
    const blocks = text.split(/\r?\n\r?\n/);
    text = blocks.pop() ?? "";
    for (const block of blocks) yield readBlock(block);
  }
}

function readBlock(block: string): StreamedEvent {
  const fields = new Map<string, string>();
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) continue;
    const known = fields.get(name);
    fields.set(name, name === "data" && known !== undefined ? `${known}\n${value}` : value);
  }
  const event = fields.get("event");
  const id = fields.get("id");
  const retry = fields.get("retry");
  return {
    ...(event === undefined ? {} : { event }),
    ...(id === undefined ? {} : { id }),
    ...(retry === undefined ? {} : { retryMs: Number(retry) }),
    data: fields.get("data") ?? "",
  };
}
