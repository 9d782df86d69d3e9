import { createHash } from "node:crypto";
import { hideValue } from "@mig/kit";
import { MigError } from "@mig/lifecycle";

/**
 * The master keys of the embedded store: the first seals, all open. They come from outside the database (a file, a
 * cloud's secret store), one a line, 32 bytes as 64 hexadecimal digits or as base64; blank lines and those that begin
 * with # say nothing. `openssl rand -hex 32` makes one.
 *
 * A key's id is made from the key, so two replicas cannot mean different keys by one id.
 */
export interface KeyRing {
  /** Of the key that seals. */
  readonly newest: string;
  readonly ids: readonly string[];
  has(id: string): boolean;
  /** Runs with the key; undefined when the ring does not have it. */
  use<T>(id: string, run: (key: Buffer) => T): T | undefined;
  dispose(): void;
}

const keysMax = 16;
export const keyIdPattern = /^[0-9a-f]{12}$/;

/** Overwrites `bytes`. Throws `secret_invalid`; no message quotes a line. */
export function readKeyRing(bytes: Buffer, where: string): KeyRing {
  const lines = bytes.toString("utf8").split(/\r?\n/);
  bytes.fill(0);
  const keys = new Map<string, Buffer>();
  const forget: (() => void)[] = [];
  for (const [index, line] of lines.entries()) {
    const text = line.trim();
    if (text === "" || text.startsWith("#")) continue;
    const key = readKey(text);
    if (key === undefined)
      throw new MigError(
        "secret_invalid",
        `${where}, line ${index + 1}: a master key is 32 bytes, as 64 hexadecimal digits or as base64; make one with: openssl rand -hex 32`,
      );
    const id = idOf(key);
    if (keys.has(id))
      throw new MigError("secret_invalid", `${where}, line ${index + 1}: the key ${id} is there already`);
    if (keys.size >= keysMax)
      throw new MigError(
        "secret_invalid",
        `${where} holds more than ${keysMax} keys; remove those that nothing is sealed with`,
      );
    keys.set(id, key);
    forget.push(hideValue(text), hideValue(key.toString("hex")), hideValue(key.toString("base64")));
  }
  const newest = keys.keys().next().value;
  if (newest === undefined)
    throw new MigError("secret_invalid", `${where} holds no master key; make one with: openssl rand -hex 32`);
  return {
    newest,
    ids: [...keys.keys()],
    has: (id) => keys.has(id),
    use(id, run) {
      const key = keys.get(id);
      return key === undefined ? undefined : run(key);
    },
    dispose() {
      for (const key of keys.values()) key.fill(0);
      keys.clear();
      for (const run of forget) run();
    },
  };
}

/** Undefined also for what decodes to 32 bytes but is not how anybody would write them: a mistake, not a key. */
function readKey(text: string): Buffer | undefined {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return demandRandom(Buffer.from(text, "hex"));
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return undefined;
  const key = Buffer.from(text, "base64");
  const isCanonical =
    key.toString("base64url") === text.replace(/=$/, "").replaceAll("+", "-").replaceAll("/", "_");
  return key.length === 32 && isCanonical ? demandRandom(key) : undefined;
}

/** Zeros, or one letter 64 times, are somebody's placeholder. Random bytes have fewer than 8 values once in 10^40. */
function demandRandom(key: Buffer): Buffer | undefined {
  return new Set(key).size >= 8 ? key : undefined;
}

function idOf(key: Buffer): string {
  return createHash("sha256").update("mig/v1 master key\0").update(key).digest("hex").slice(0, 12);
}
