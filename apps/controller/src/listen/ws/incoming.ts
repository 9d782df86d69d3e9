import { type AgentMessage, agentMessageFromJson, limits, WireError } from "@mig/protocol";

/**
 * A text frame as messages: one object, or an array of them, so that a batch of events is one frame. Throws WireError
 * for what is neither.
 */
export function readFrame(bytes: Buffer, vmId: string): AgentMessage[] {
  const body = parse(bytes);
  const list: unknown[] = Array.isArray(body) ? body : [body];
  if (list.length === 0 || list.length > limits.eventsPerBatchMax) {
    throw new WireError(`an array has 1 to ${limits.eventsPerBatchMax} messages`);
  }
  const about = { vmId, nowMs: Date.now() };
  return list.map((one) => agentMessageFromJson(one, about));
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new WireError("the message is not JSON", { cause });
  }
}
