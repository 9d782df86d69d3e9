import { createHash, randomBytes } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import { explainWrongAnswer, insteadOf } from "./wrong-answer.ts";

const headBytesMax = 16 * 1024;
const bodyBytesMax = 64 * 1024;
/** RFC 6455 §1.3. */
const keySuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** Every message of DESIGN §8; without it the controller would take us for a client that wants commands alone. */
const subprotocol = "mig.v1";

export interface Handshake {
  /** What is sent first. */
  request: string;
  /**
   * Takes what arrives. Undefined: more is needed. Bytes: the handshake is done, and these came after it. An error: it
   * is refused.
   */
  read(chunk: Buffer): Buffer | MigError | undefined;
  /** The peer has closed: what there is of its answer is all of it. */
  end(): MigError;
}

export function createHandshake(url: URL, token: string | undefined): Handshake {
  const key = randomBytes(16).toString("base64");
  let seen: Buffer = Buffer.alloc(0);
  const lines = [
    `GET ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${key}`,
    `Sec-WebSocket-Protocol: ${subprotocol}`,
    "User-Agent: miglet",
    ...(token === undefined ? [] : [`Authorization: Bearer ${token}`]),
  ];

  const judge = (isWhole: boolean): Buffer | MigError | undefined => {
    const end = seen.indexOf("\r\n\r\n");
    if (end < 0)
      return seen.length > headBytesMax || !/^(?:H(?:T(?:T(?:P.*)?)?)?)?$/s.test(seen.toString("latin1"))
        ? instead(url, "something that is not HTTP")
        : undefined;
    const { status, headers } = parseHead(seen.subarray(0, end).toString("latin1"));
    const rest = seen.subarray(end + 4);
    if (status === 101) {
      const accept = createHash("sha1").update(`${key}${keySuffix}`).digest("base64");
      if (headers["sec-websocket-accept"] !== accept || headers["sec-websocket-protocol"] !== subprotocol)
        return instead(url, `a WebSocket that does not speak ${subprotocol}`);
      return rest;
    }
    const bodyBytes = Math.min(bodyBytesMax, Number(headers["content-length"] ?? 0));
    if (!isWhole && rest.length < bodyBytes) return undefined;
    return explainWrongAnswer(url, { status, headers, text: rest.toString("utf8") }, wanted);
  };

  return {
    request: `${lines.join("\r\n")}\r\n\r\n`,
    read(chunk) {
      seen = Buffer.concat([seen, chunk]);
      return judge(false);
    },
    end() {
      const outcome = judge(true);
      return outcome instanceof MigError
        ? outcome
        : instead(url, "nothing before it ended the connection: check whether it speaks HTTP, and TLS");
    },
  };
}

function parseHead(text: string): { status: number; headers: Record<string, string> } {
  const [first = "", ...lines] = text.split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status: Number(/^HTTP\/1\.\d (\d{3})/.exec(first)?.[1] ?? 0), headers };
}

const wanted = "a WebSocket";
const instead = (url: URL, what: string): MigError => insteadOf(wanted, url, what);
