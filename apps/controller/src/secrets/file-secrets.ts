import { createHash } from "node:crypto";
import { constants, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { FetchedSecret, SecretProvider } from "./provider.ts";
import type { ReferenceOf } from "./reference.ts";
import { quote } from "./refuse.ts";
import { SecretValue } from "./secret-value.ts";

const bytesMax = 64 * 1024;
/** Reading a file costs nothing, and a mounted secret changes without a word (DESIGN: re-read by polling). */
export const fileRefreshMs = 10_000;

export function createFileSecrets(log: Log): SecretProvider<ReferenceOf<"file">> {
  const warned = new Set<string>();
  return {
    refreshMs: () => fileRefreshMs,
    async fetch({ path, text }) {
      const { bytes, mode } = await readSmallFile(path, text);
      if ((mode & 0o007) !== 0 && !warned.has(text)) {
        warned.add(text);
        log.warn(
          { reference: text, mode: (mode & 0o777).toString(8) },
          "everybody on this machine may read this file",
        );
      }
      return toSecret(withoutLineEnd(bytes), text);
    },
  };
}

/**
 * A key of a Secret as kubelet mounts it. It exchanges all of them at once by turning the link `..data` round, so
 * every read follows the links anew and sees one key whole, old or new.
 */
export async function readMountedSecret({
  mount = "",
  key,
  text,
}: ReferenceOf<"k8s">): Promise<FetchedSecret> {
  try {
    const { bytes } = await readSmallFile(join(mount, key), text);
    return toSecret(bytes, text);
  } catch (error) {
    const names = await readdir(mount).catch(() => undefined);
    const isThere = names?.includes(key) !== false;
    if (isThere) throw error;
    const others = names?.filter((name) => !name.startsWith("..")).slice(0, 20) ?? [];
    throw new MigError(
      "secret_invalid",
      `${text} has no such key in its mount; there are${quote(others.join(", ") || "none").slice(1)}`,
    );
  }
}

async function readSmallFile(path: string, text: string): Promise<{ bytes: Buffer; mode: number }> {
  try {
    // One opened file: what is measured is what is read, whatever the name means by then.
    // Without waiting: a pipe that nobody writes to would hold a thread for ever.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const about = await file.stat();
    if (!about.isFile()) throw new MigError("secret_invalid", `${text} is not a file`);
    if (about.size > bytesMax)
      throw new MigError("secret_invalid", `${text} is longer than ${bytesMax} bytes`);
    const buffer = Buffer.alloc(bytesMax + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) break;
    }
    const bytes = Buffer.from(buffer.subarray(0, length));
    buffer.fill(0);
    if (length > bytesMax) throw new MigError("secret_invalid", `${text} is longer than ${bytesMax} bytes`);
    return { bytes, mode: about.mode };
  } catch (error) {
    throw error instanceof MigError ? error : translate(error, text);
  }
}

function translate(error: unknown, text: string): MigError {
  const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
  if (code === "ENOENT" || code === "ENOTDIR")
    return new MigError(
      "secret_invalid",
      `${text} does not exist, or a directory on the way does not (${code})`,
    );
  if (code === "EACCES" || code === "EPERM")
    return new MigError(
      "secret_forbidden",
      `${text} may not be read by the controller's user (${code}); give it to that user, mode 0600`,
    );
  return new MigError("secret_unavailable", `${text} cannot be read (${code})`);
}

/** Editors and `echo` end a text with a line end, which no token has. Bytes that are no text stay as they are. */
function withoutLineEnd(bytes: Buffer): Buffer {
  const end = bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? 2 : 1) : 0;
  if (end === 0 || !isText(bytes)) return bytes;
  const shorter = Buffer.from(bytes.subarray(0, bytes.length - end));
  bytes.fill(0);
  return shorter;
}

function isText(bytes: Buffer): boolean {
  try {
    return !new TextDecoder("utf-8", { fatal: true }).decode(bytes).includes("\0");
  } catch {
    return false;
  }
}

function toSecret(bytes: Buffer, text: string): FetchedSecret {
  if (bytes.length === 0) throw new MigError("secret_invalid", `${text} is empty`);
  return {
    version: `sha256:${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}`,
    value: new SecretValue(bytes),
  };
}
