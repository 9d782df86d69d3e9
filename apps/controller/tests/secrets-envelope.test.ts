import { randomBytes } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { aboutRow, keyIdOf, open, rewrap, seal } from "../src/secrets/envelope.ts";
import { type KeyRing, readKeyRing } from "../src/secrets/key-ring.ts";
import { createSealer } from "../src/secrets/sealer.ts";
import { SecretValue } from "../src/secrets/secret-value.ts";

const keys = Array.from({ length: 3 }, () => randomBytes(32).toString("hex"));
const ringOf = (...lines: (string | undefined)[]): KeyRing =>
  readKeyRing(Buffer.from(lines.join("\n")), "the test's file");
const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return error instanceof MigError ? error.code : String(error);
  }
  return "none";
};

describe("an envelope", () => {
  const ring = ringOf(keys[0]);
  const about = aboutRow("secrets", "app/1", 1);

  it("gives back any bytes, in its own row", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5_000 }), fc.string(), (bytes, row) => {
        const sealed = seal(bytes, aboutRow("secrets", row), ring);
        expect(Buffer.compare(open(sealed, aboutRow("secrets", row), ring), bytes)).toBe(0);
        expect(sealed).toMatch(/^mig1\.[0-9a-f]{12}\.[\w-]+\.[\w-]+$/);
      }),
    );
  });

  it("never seals twice alike", () => {
    const seen = new Set(Array.from({ length: 500 }, () => seal(Buffer.from("same"), about, ring)));
    expect(seen.size).toBe(500);
  });

  it("does not open when any one bit of its text is flipped", () => {
    const sealed = seal(Buffer.from("a key of an App"), about, ring);
    const both = ringOf(keys[1], keys[0]);
    for (let at = 0; at < sealed.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const text = Buffer.from(sealed, "latin1");
        text[at] = (text[at] ?? 0) ^ (1 << bit);
        expect(
          codeOf(() => open(text.toString("latin1"), about, ring)),
          `byte ${at}, bit ${bit}`,
        ).not.toBe("none");
        // A re-wrap carries the body over unopened: then it is refused when it is read.
        const through = (): Buffer => open(rewrap(text.toString("latin1"), about, both) ?? "", about, both);
        expect(codeOf(through), `re-wrapped, byte ${at}, bit ${bit}`).not.toBe("none");
      }
    }
  });

  it("does not open when it is cut, lengthened or no envelope at all", () => {
    const sealed = seal(Buffer.from("secret"), about, ring);
    for (let length = 0; length < sealed.length; length += 1)
      expect(codeOf(() => open(sealed.slice(0, length), about, ring))).toBe("secret_invalid");
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ minLength: 1 }).map((more) => sealed + more),
          fc.string(),
        ),
        (text) => {
          expect(codeOf(() => open(text, about, ring))).not.toBe("none");
        },
      ),
    );
  });

  it("does not open in another row, table or version", () => {
    const sealed = seal(Buffer.from("secret"), about, ring);
    for (const other of [
      aboutRow("secrets", "app/2", 1),
      aboutRow("grants", "app/1", 1),
      aboutRow("secrets", "app/1", 2),
      aboutRow("secrets", "app/1", "1"),
    ]) {
      expect(codeOf(() => open(sealed, other, ring))).toBe("secret_invalid");
      expect(codeOf(() => rewrap(sealed, other, ringOf(keys[1], keys[0])))).toBe("secret_invalid");
    }
  });

  it("does not open with another key, nor with another key's id", () => {
    const sealed = seal(Buffer.from("secret"), about, ring);
    expect(codeOf(() => open(sealed, about, ringOf(keys[1])))).toBe("secret_unavailable");
    const both = ringOf(keys[1], keys[0]);
    expect(open(sealed, about, both).toString()).toBe("secret");
    const [format, , wrapped, body] = sealed.split(".");
    expect(codeOf(() => open([format, both.newest, wrapped, body].join("."), about, both))).toBe(
      "secret_invalid",
    );
  });

  it("comes under a new key without its body being touched", () => {
    const sealed = seal(Buffer.from("secret"), about, ring);
    const moved = rewrap(sealed, about, ringOf(keys[1], keys[0])) ?? "";
    expect(keyIdOf(moved)).toBe(ringOf(keys[1]).newest);
    expect(moved.split(".")[3]).toBe(sealed.split(".")[3]);
    expect(open(moved, about, ringOf(keys[1])).toString()).toBe("secret");
    expect(codeOf(() => open(moved, about, ring))).toBe("secret_unavailable");
    expect(rewrap(moved, about, ringOf(keys[1], keys[0]))).toBeUndefined();
  });
});

describe("a ring of master keys", () => {
  it("takes hexadecimal and base64, comments and line ends of both kinds; the first seals", () => {
    const [one = "", two = ""] = keys;
    const ring = ringOf("# 2026-11", `${one}\r`, "", `  ${Buffer.from(two, "hex").toString("base64")} `);
    expect(ring.ids).toEqual([ringOf(one).newest, ringOf(two).newest]);
    expect(ring.newest).toBe(ringOf(one).newest);
  });

  it.each([
    ["nothing", "", /holds no master key/],
    ["comments only", "# soon\n\n", /holds no master key/],
    ["a short key", "ab".repeat(31), /line 1: a master key is 32 bytes/],
    ["words", "correct horse battery staple", /line 1: a master key/],
    ["zeros", "00".repeat(32), /line 1: a master key/],
    [
      "the same twice",
      `${keys[0]}\n${Buffer.from(keys[0] ?? "", "hex").toString("base64")}`,
      /line 2: the key [0-9a-f]{12} is there already/,
    ],
    [
      "seventeen",
      Array.from({ length: 17 }, () => randomBytes(32).toString("hex")).join("\n"),
      /more than 16 keys/,
    ],
  ])("refuses %s, and quotes no line", (_what, text, why) => {
    let message = "";
    try {
      ringOf(text);
    } catch (error) {
      expect((error as MigError).code).toBe("secret_invalid");
      message = (error as MigError).message;
    }
    expect(message).toMatch(why);
    for (const line of text.split("\n")) if (line.length > 10) expect(message).not.toContain(line);
  });

  it("never throws anything else, whatever the file holds", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(codeOf(() => readKeyRing(Buffer.from(bytes), "it"))).toBe("secret_invalid");
      }),
    );
  });
});

describe("a sealer", () => {
  it("keeps the keys that it has when the new ones do not hold, and forgets those that are gone", () => {
    const sealer = createSealer();
    expect(codeOf(() => sealer.seal("x", "row"))).toBe("secret_unavailable");
    sealer.adopt(new SecretValue(keys[0] ?? ""), "it");
    const sealed = sealer.seal("grüße \u0000 \u{1f511}", "row");
    expect(codeOf(() => sealer.adopt(new SecretValue("rubbish"), "it"))).toBe("secret_invalid");
    expect(sealer.open(sealed, "row")).toBe("grüße \u0000 \u{1f511}");
    sealer.adopt(new SecretValue(`${keys[1]}\n${keys[0]}`), "it");
    expect(sealer.open(sealed, "row")).toBe("grüße \u0000 \u{1f511}");
    sealer.adopt(new SecretValue(keys[1] ?? ""), "it");
    expect(codeOf(() => sealer.open(sealed, "row"))).toBe("secret_unavailable");
    sealer.dispose();
  });
});
