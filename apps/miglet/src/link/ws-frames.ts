import { randomBytes } from "node:crypto";

/** RFC 6455 §5, a client's side: what is sent is masked, what comes is not; no extension is spoken. */
export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

const receiveBytesMax = 4 * 1024 * 1024;
const fragmentsMax = 10_000;

export function maskedFrame(opcode: number, payload: Buffer): Buffer {
  const { length } = payload;
  const lengthBytes = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const frame = Buffer.allocUnsafe(2 + lengthBytes + 4 + length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127);
  if (lengthBytes === 2) frame.writeUInt16BE(length, 2);
  if (lengthBytes === 8) frame.writeBigUInt64BE(BigInt(length), 2);
  const mask = randomBytes(4);
  const at = 2 + lengthBytes;
  mask.copy(frame, at);
  for (let i = 0; i < length; i += 1) frame[at + 4 + i] = (payload[i] ?? 0) ^ (mask[i & 3] ?? 0);
  return frame;
}

export interface FrameListener {
  onText(text: string): void;
  onPing(payload: Buffer): void;
  /** `code` is 1005 when the peer gave none. */
  onClose(code: number, reason: string): void;
}

interface Head {
  isLast: boolean;
  opcode: number;
  /** Bytes of the head. */
  size: number;
  length: number;
}

/** Splits what arrives into messages; answers what is wrong with it, or undefined. */
export function createFrameReader(listener: FrameListener): (chunk: Buffer) => string | undefined {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest: Buffer[] = [];
  let restBytes = 0;
  let neededBytes = 2;
  let message: Buffer[] | undefined;
  let messageBytes = 0;

  const take = ({ isLast, opcode }: Head, payload: Buffer): string | undefined => {
    if (opcode >= opcodes.close) return takeControl(isLast, opcode, payload);
    if (opcode === opcodes.binary) return "a binary message came, and messages are text";
    if ((opcode === opcodes.continuation) === (message === undefined))
      return "the pieces of a message are out of order";
    message ??= [];
    messageBytes += payload.length;
    if (messageBytes > receiveBytesMax || message.length > fragmentsMax)
      return `a message of ${messageBytes} bytes in ${message.length} pieces is over the limit`;
    message.push(payload);
    if (!isLast) return undefined;
    const whole = message.length === 1 ? payload : Buffer.concat(message);
    message = undefined;
    messageBytes = 0;
    try {
      listener.onText(decoder.decode(whole));
      return undefined;
    } catch (error) {
      if (error instanceof TypeError) return "a message is not UTF-8";
      throw error;
    }
  };
  const takeControl = (isLast: boolean, opcode: number, payload: Buffer): string | undefined => {
    if (!isLast || payload.length > 125) return "a control frame is too long or in pieces";
    if (opcode === opcodes.close)
      listener.onClose(
        payload.length < 2 ? 1005 : payload.readUInt16BE(0),
        payload.subarray(2).toString("utf8"),
      );
    if (opcode === opcodes.ping) listener.onPing(payload);
    return undefined;
  };

  return (chunk) => {
    rest.push(chunk);
    restBytes += chunk.length;
    while (restBytes >= neededBytes) {
      const bytes = rest.length === 1 ? (rest[0] ?? chunk) : Buffer.concat(rest);
      rest = [bytes];
      const head = readHead(bytes);
      if (typeof head === "string") return head;
      if (typeof head === "number" || restBytes < head.size + head.length) {
        neededBytes = typeof head === "number" ? head : head.size + head.length;
        continue;
      }
      rest = [bytes.subarray(head.size + head.length)];
      restBytes -= head.size + head.length;
      neededBytes = 2;
      const problem = take(head, bytes.subarray(head.size, head.size + head.length));
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

/** A number: so many bytes are needed to read it. A text: what is wrong with it. */
function readHead(bytes: Buffer): Head | number | string {
  const [first = 0, second = 0] = bytes;
  if ((first & 0x70) !== 0) return "a frame uses an extension that was not agreed on";
  if ((second & 0x80) !== 0) return "a frame of the server is masked";
  const opcode = first & 0xf;
  if (opcode > opcodes.pong || (opcode > opcodes.binary && opcode < opcodes.close))
    return "a frame of an unknown kind came";
  const short = second & 0x7f;
  const size = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < size) return size;
  const length =
    short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (length > receiveBytesMax) return `a frame of ${length} bytes is over the limit`;
  return { isLast: (first & 0x80) !== 0, opcode, size, length };
}
