/** One event of a stream; `id` is the last that was said, as the standard has it. */
export interface StreamEvent {
  event: string;
  data: string;
  id: string;
}

const eventCharsMax = 4 * 1024 * 1024;

/**
 * Splits what arrives into events (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream):
 * lines end in CR, LF or both, an empty one ends an event, one that begins with a colon is a comment. Answers what is
 * wrong, or undefined. `retry` is for clients without a backoff of their own.
 */
export function createEventReader(
  onEvent: (event: StreamEvent) => void,
): (text: string) => string | undefined {
  let rest = "";
  let endedInCr = false;
  let isFirst = true;
  let event = "";
  let data: string[] = [];
  let chars = 0;
  let id = "";

  const takeLine = (line: string): void => {
    if (line === "") {
      if (data.length > 0) onEvent({ event: event === "" ? "message" : event, data: data.join("\n"), id });
      event = "";
      data = [];
      chars = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    chars += line.length;
    if (field === "event") event = value;
    if (field === "data") data.push(value);
    if (field === "id" && !value.includes("\0")) id = value;
  };

  return (text) => {
    let chunk = text;
    if (isFirst && chunk !== "") {
      chunk = chunk.replace(/^\uFEFF/, "");
      isFirst = false;
    }
    // The two halves of CR LF may come in two chunks.
    if (endedInCr && chunk.startsWith("\n")) chunk = chunk.slice(1);
    if (chunk !== "") endedInCr = chunk.endsWith("\r");
    const lines = chunk.split(/\r\n|\r|\n/);
    lines[0] = rest + (lines[0] ?? "");
    rest = lines.pop() ?? "";
    for (const line of lines) takeLine(line);
    return rest.length + chars > eventCharsMax ? "an event is over the limit" : undefined;
  };
}
