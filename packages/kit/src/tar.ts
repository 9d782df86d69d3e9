/** One file of an archive. */
export interface TarFile {
  /** At most 100 bytes, with `/` between folders. */
  readonly name: string;
  readonly content: Buffer;
}

const blockBytes = 512;

/**
 * A ustar archive of plain files (POSIX.1-1988), with no more of the format than that: every tar reads it. Written here
 * because it is forty lines, and a library is weight on the VM.
 */
export function packTar(files: readonly TarFile[], atMs: number): Buffer {
  const parts = files.flatMap(({ name, content }) => [
    headerOf(name, content.length, atMs),
    content,
    Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(2 * blockBytes)]);
}

function headerOf(name: string, size: number, atMs: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new RangeError(`"${name}" is too long for a name in an archive`);
  const header = Buffer.alloc(blockBytes);
  const octal = (value: number, length: number): string => `${value.toString(8).padStart(length - 1, "0")}\0`;
  header.write(name, 0);
  header.write(octal(0o600, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(size, 12), 124);
  header.write(octal(Math.floor(atMs / 1000), 12), 136);
  header.write(" ".repeat(8), 148);
  header.write("0", 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** The plain files of such an archive. Throws RangeError for what is none, or is cut off. */
export function unpackTar(archive: Buffer): TarFile[] {
  const files: TarFile[] = [];
  for (let at = 0; at + blockBytes <= archive.length; ) {
    const header = archive.subarray(at, at + blockBytes);
    if (header.every((byte) => byte === 0)) return files;
    const text = (from: number, to: number): string =>
      header.subarray(from, to).toString("utf8").replace(/\0.*$/s, "");
    const size = Number.parseInt(text(124, 136), 8);
    if (text(257, 262) !== "ustar" || !(size >= 0)) break;
    const end = at + blockBytes + size;
    if (end > archive.length) break;
    if (text(156, 157) === "0")
      files.push({ name: text(0, 100), content: archive.subarray(at + blockBytes, end) });
    at = end + ((blockBytes - (size % blockBytes)) % blockBytes);
  }
  throw new RangeError("this is no whole tar archive");
}
