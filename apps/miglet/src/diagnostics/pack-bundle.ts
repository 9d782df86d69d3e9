import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { packTar } from "@mig/kit";
import type { JsonObject } from "@mig/protocol";
import type { Gathered, Part } from "./part.ts";

export interface Bundle {
  readonly content: Buffer;
  /** Hexadecimal. */
  readonly sha256: string;
  readonly files: readonly string[];
  /** Something is not in it that should be: manifest.json says what and why. */
  readonly truncated: boolean;
}

/** Beside the files: whose, by which command, when. */
export type BundleHead = JsonObject;

const zip = promisify(gzip);

/**
 * A gzipped tar of at most `maxBytes`. What does not fit loses its oldest lines, the largest file first, until it does.
 * Compressing happens off this thread.
 */
export async function packBundle(
  { parts, missing }: Gathered,
  head: BundleHead,
  maxBytes: number,
): Promise<Bundle> {
  let kept = [...parts];
  for (;;) {
    const truncated = missing.length > 0 || kept.some(({ dropped }) => dropped > 0);
    const manifest = {
      ...head,
      truncated,
      files: kept.map(({ name, text, dropped }) => ({
        name,
        bytes: Buffer.byteLength(text),
        ...(dropped === 0 ? {} : { dropped_bytes: dropped, why: "only the newest is kept" }),
      })),
      missing: missing.map(({ name, why }) => ({ name, why })),
    };
    const files = [
      { name: "manifest.json", content: Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`) },
      ...kept.map(({ name, text }) => ({ name, content: Buffer.from(text) })),
    ];
    const content = await zip(packTar(files, Date.now()));
    if (content.length <= maxBytes || kept.every(({ text }) => text === "")) {
      const sha256 = createHash("sha256").update(content).digest("hex");
      return { content, sha256, files: files.map(({ name }) => name), truncated };
    }
    const characters = kept.reduce((sum, { text }) => sum + text.length, 0);
    kept = shrink(kept, Math.floor(characters * 0.9 * (maxBytes / content.length)));
  }
}

/** To so many characters together: those above an equal share give first. */
function shrink(parts: readonly Part[], characters: number): Part[] {
  let left = characters;
  const room = new Map<Part, number>();
  const smallFirst = [...parts].sort((a, b) => a.text.length - b.text.length);
  for (const [i, part] of smallFirst.entries()) {
    const share = Math.min(part.text.length, Math.floor(left / (smallFirst.length - i)));
    room.set(part, share);
    left -= share;
  }
  return parts.map((part) => cutTo(part, room.get(part) ?? 0));
}

function cutTo(part: Part, charactersMax: number): Part {
  const { text, dropped } = part;
  if (text.length <= charactersMax) return part;
  const start = text.indexOf("\n", text.length - charactersMax - 1) + 1;
  const rest = start === 0 ? "" : text.slice(start);
  return { ...part, text: rest, dropped: dropped + Buffer.byteLength(text) - Buffer.byteLength(rest) };
}
