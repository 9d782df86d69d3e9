import type { Socket } from "node:net";

/** A TLS connection begins with a record of this type (RFC 8446 §5.1). */
const handshakeRecord = 0x16;

const body = "This port speaks TLS: use https:// in place of http://\n";
const answer =
  "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n" +
  `content-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`;

/**
 * Looks at the first byte and calls `go` with the socket as it was, if it may be TLS. Who speaks HTTP in plaintext is
 * told what to do, since it is a person with a wrong URL; anything else is closed, and so is who stays silent.
 */
export function refuseBeforeTls(socket: Socket, silentMs: number, go: () => void): void {
  const timer = setTimeout(() => socket.destroy(), silentMs);
  const close = (): void => void socket.destroy();
  const forget = (): void => {
    clearTimeout(timer);
    socket.off("close", forget);
    socket.off("end", close);
  };
  socket.once("close", forget);
  socket.once("end", close);
  socket.once("data", (chunk: Buffer) => {
    if (chunk[0] === handshakeRecord) {
      forget();
      socket.pause();
      socket.unshift(chunk);
      go();
    } else if (isMethod(chunk)) {
      socket.off("end", close);
      // What is still to come is read and dropped: unread bytes would turn the close into a reset before the answer.
      socket.resume();
      socket.end(answer);
    } else socket.destroy();
  });
}

/** Also true for HTTP/2 without TLS, whose preface looks like a method on purpose. */
function isMethod(bytes: Buffer): boolean {
  return /^[A-Z]{1,16}(?: |$)/.test(bytes.subarray(0, 17).toString("latin1"));
}
