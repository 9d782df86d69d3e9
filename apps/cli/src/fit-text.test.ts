import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cutTo, displayWidth, padTo, piecesOf } from "./display-width.ts";
import { fitText } from "./fit-text.ts";
import { jsonText } from "./json-text.ts";

describe("columns of a terminal", () => {
  it.each([
    ["plain", 5],
    ["", 0],
    ["日本語", 6],
    ["한국", 4],
    ["ｆｕｌｌ", 8],
    ["🚀", 2],
    ["é", 1],
    ["e\u0301", 1],
    ["→ …", 3],
    ["\u001b[1mbold\u001b[22m", 4],
    ["a\u200bb", 2],
  ])("%j takes %i", (text, width) => {
    expect(displayWidth(text)).toBe(width);
    expect(displayWidth(padTo(text, 12))).toBe(12);
  });

  it("cuts and breaks no sign in two", () => {
    expect(cutTo("日本語", 5)).toBe("日本…");
    expect(cutTo("日本語", 4)).toBe("日…");
    expect(piecesOf("日本語x", 3)).toEqual(["日", "本", "語x"]);
  });
});

describe("fitText", () => {
  it("no line is wider, and no word is lost, whatever the text", () => {
    const word = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 30 }),
      fc.constantFrom("日本語", "--json", "migctl"),
    );
    const text = fc
      .array(word, { maxLength: 20 })
      .map((words) => words.join(" ").replaceAll(/[\p{Cc}\p{Cf}]/gu, ""));
    const bare = (some: string): string => some.replaceAll(/\\?\s+/g, "");
    fc.assert(
      fc.property(text, fc.integer({ min: 12, max: 60 }), (some, width) => {
        const fitted = fitText(some, width);
        for (const line of fitted.split("\n")) expect(displayWidth(line)).toBeLessThanOrEqual(width);
        if (!some.includes("\\")) expect(bare(fitted)).toBe(bare(some));
      }),
    );
  });

  it("breaks an option's help beside it, and a command so that it can be copied", () => {
    expect(fitText("  --pool ID  only of this pool and no other", 30)).toBe(
      "  --pool ID  only of this pool\n             and no other",
    );
    expect(fitText("  migctl command show 0190-0000 --wait", 26)).toBe(
      "  migctl command show \\\n    0190-0000 --wait",
    );
  });

  it("leaves alone what steers the cursor, and everything where nobody looks", () => {
    for (const text of ["\rdone 1/1, and more than ten", "\u001b[H a frame that is wide"])
      expect(fitText(text, 10)).toBe(text);
    expect(fitText("a line that is wide", Number.POSITIVE_INFINITY)).toBe("a line that is wide");
  });
});

it("JSON is the same when it is read, and holds nothing that steers", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const said = jsonText({ text: `${text}\u009b\u202e\u{e0001}` });
      expect(said).not.toMatch(/[\p{Cc}\p{Cf}]/u);
      expect(JSON.parse(said)).toEqual({ text: `${text}\u009b\u202e\u{e0001}` });
    }),
  );
});
