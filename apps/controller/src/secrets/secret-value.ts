import { createHash, timingSafeEqual } from "node:crypto";
import { hideValue, REDACTED } from "@mig/kit";

/**
 * Bytes that nothing prints: not a template string, not JSON, not `console.log`, not a structured clone (they are a
 * private field, and a clone has none). While it lives, the log takes its text, and what base64, JSON and a URL
 * make of it, out of every line. `reveal` and `revealBytes` are the only ways to read it.
 *
 * `dispose` overwrites the bytes. A text that somebody has already revealed is a string, and JavaScript cannot
 * overwrite those: so what can stay bytes (keys that seal, tokens on their way) does.
 */
export class SecretValue {
  readonly #bytes: Buffer;
  readonly #forget: (() => void)[];
  #isDisposed = false;

  /** Takes the buffer over: whoever gave it must not use it any more. */
  constructor(bytes: Buffer | string) {
    this.#bytes = typeof bytes === "string" ? Buffer.from(bytes, "utf8") : bytes;
    this.#forget = formsOf(this.#bytes).map(hideValue);
  }

  /** As text (UTF-8). */
  reveal(): string {
    return this.#live().toString("utf8");
  }

  /** A copy; the caller overwrites it when done. */
  revealBytes(): Buffer {
    return Buffer.from(this.#live());
  }

  get byteLength(): number {
    return this.#live().byteLength;
  }

  /** Tells two values apart without showing either: the first 12 hex digits of a SHA-256. */
  get digest(): string {
    return digestOf(this.#live()).toString("hex").slice(0, 12);
  }

  equals(other: SecretValue): boolean {
    return timingSafeEqual(digestOf(this.#live()), digestOf(other.#live()));
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#bytes.fill(0);
    for (const forget of this.#forget) forget();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.toPrimitive](): string {
    return REDACTED;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return REDACTED;
  }

  #live(): Buffer {
    if (this.#isDisposed) throw new Error("this secret was disposed of; ask for it again");
    return this.#bytes;
  }
}

/** What the log looks for. Of a text it knows the other forms itself; bytes that are no text are written in these. */
function formsOf(bytes: Buffer): string[] {
  const text = bytes.toString("utf8");
  if (!bytes.equals(Buffer.from(text, "utf8"))) return [bytes.toString("base64"), bytes.toString("hex")];
  return text === text.trim() ? [text] : [text, text.trim()];
}

function digestOf(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes).digest();
}
