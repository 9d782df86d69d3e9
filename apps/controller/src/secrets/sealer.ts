import { MigError } from "@mig/lifecycle";
import { open, rewrap, seal } from "./envelope.ts";
import { type KeyRing, readKeyRing } from "./key-ring.ts";
import type { SecretValue } from "./secret-value.ts";

/**
 * Seals and opens with whatever master keys hold at the moment. Everything is synchronous, so a ring that is exchanged
 * is never in use, and its keys can be overwritten at once.
 */
export interface Sealer {
  /** `about` binds it to its row: see `aboutRow`. */
  seal(text: string, about: string): string;
  open(sealed: string, about: string): string;
  sealBytes(bytes: Uint8Array, about: string): string;
  /** The caller overwrites what it gets. */
  openBytes(sealed: string, about: string): Buffer;
  /** Undefined when it is under the newest key already. */
  rewrap(sealed: string, about: string): string | undefined;
  /** The key that seals now. */
  keyId(): string;
  keyIds(): readonly string[];
  /** Whether the master keys have been read. */
  isReady(): boolean;
}

export interface HeldSealer extends Sealer {
  /** Takes over the keys in this value, or throws and keeps those it has. */
  adopt(value: SecretValue, where: string): void;
  dispose(): void;
}

export function createSealer(onUnknownKey: () => void = () => {}): HeldSealer {
  let ring: KeyRing | undefined;
  const held = (): KeyRing => {
    if (ring === undefined)
      throw new MigError("secret_unavailable", "the master keys are not here yet", { retryAfterMs: 1_000 });
    return ring;
  };
  /** Another replica may seal with a key that we have not read yet. */
  const attempt = <T>(run: () => T): T => {
    try {
      return run();
    } catch (error) {
      if (error instanceof MigError && error.code === "secret_unavailable" && ring !== undefined)
        onUnknownKey();
      throw error;
    }
  };
  return {
    seal: (text, about) => seal(Buffer.from(text, "utf8"), about, held()),
    sealBytes: (bytes, about) => seal(bytes, about, held()),
    open(sealed, about) {
      const plain = attempt(() => open(sealed, about, held()));
      const text = plain.toString("utf8");
      plain.fill(0);
      return text;
    },
    openBytes: (sealed, about) => attempt(() => open(sealed, about, held())),
    rewrap: (sealed, about) => attempt(() => rewrap(sealed, about, held())),
    keyId: () => held().newest,
    keyIds: () => held().ids,
    isReady: () => ring !== undefined,
    adopt(value, where) {
      const next = readKeyRing(value.revealBytes(), where);
      ring?.dispose();
      ring = next;
    },
    dispose() {
      ring?.dispose();
      ring = undefined;
    },
  };
}
