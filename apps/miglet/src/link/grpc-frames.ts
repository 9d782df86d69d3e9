const receiveBytesMax = 4 * 1024 * 1024;

/** A message with gRPC's five bytes in front: not compressed, so long. */
export function frameOf(bytes: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(5 + bytes.length);
  frame[0] = 0;
  frame.writeUInt32BE(bytes.length, 1);
  frame.set(bytes, 5);
  return frame;
}

/** Splits what arrives into messages; answers what is wrong with it, or undefined. */
export function createFrameReader(
  onMessage: (bytes: Uint8Array) => void,
): (chunk: Buffer) => string | undefined {
  let chunks: Buffer[] = [];
  let size = 0;
  return (chunk) => {
    chunks.push(chunk);
    size += chunk.length;
    while (size >= 5) {
      const head = peek(chunks, 5);
      if (head[0] !== 0) return "a compressed message came, though none was asked for";
      const length = head.readUInt32BE(1);
      if (length > receiveBytesMax) return `a message of ${length} bytes is over the limit`;
      if (size < 5 + length) return undefined;
      const all = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
      const rest = all.subarray(5 + length);
      chunks = rest.length === 0 ? [] : [rest];
      size = rest.length;
      onMessage(all.subarray(5, 5 + length));
    }
    return undefined;
  };
}

function peek(chunks: readonly Buffer[], length: number): Buffer {
  const [first] = chunks;
  return first !== undefined && first.length >= length ? first : Buffer.concat(chunks).subarray(0, length);
}
