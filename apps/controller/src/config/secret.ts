import { createHash, timingSafeEqual } from "node:crypto";
import { hideValue, REDACTED } from "@mig/kit";

/** A value that nothing prints: not a log, not JSON, not `console.log`. `reveal` is the one way to read it. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
    hideValue(text);
  }

  reveal(): string {
    return this.#text;
  }

  /** Whether a caller knows it. Both sides are hashed, so that neither length nor content shows in the time it takes. */
  matches(candidate: string): boolean {
    return timingSafeEqual(digest(this.#text), digest(candidate));
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return REDACTED;
  }
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
