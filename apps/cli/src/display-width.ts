import { stripVTControlCharacters } from "node:util";

/** Columns that a terminal gives to a text: two for wide characters and emoji, none for what combines or steers. */
export function displayWidth(text: string): number {
  if (/^[\u0020-\u007e]*$/.test(text)) return text.length;
  let width = 0;
  for (const grapheme of graphemesOf(stripVTControlCharacters(text))) width += widthOf(grapheme);
  return width;
}

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

export function graphemesOf(text: string): string[] {
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/** Scripts whose characters are as wide as high (Unicode's East Asian Width W and F). */
const wide =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\u3000-\u303e\u30fb\u30fc\uff01-\uff60\uffe0-\uffe6]/u;

function widthOf(grapheme: string): number {
  if (/^[\p{Mn}\p{Me}\p{Cc}\p{Cf}]*$/u.test(grapheme)) return 0;
  return wide.test(grapheme) || /\p{Emoji_Presentation}|\ufe0f/u.test(grapheme) ? 2 : 1;
}

/** Filled up with spaces. */
export function padTo(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - displayWidth(text)));
}

/** At most so wide; what is cut off shows as "…". */
export function cutTo(text: string, width: number): string {
  return displayWidth(text) <= width ? text : `${piecesOf(text, Math.max(1, width - 1))[0] ?? ""}…`;
}

/** Pieces that are each at most so wide. */
export function piecesOf(text: string, width: number): string[] {
  const pieces: string[] = [];
  let piece = "";
  let used = 0;
  for (const grapheme of graphemesOf(text)) {
    const more = widthOf(grapheme);
    if (used + more > width && piece !== "") {
      pieces.push(piece);
      [piece, used] = ["", 0];
    }
    piece += grapheme;
    used += more;
  }
  return piece === "" && pieces.length > 0 ? pieces : [...pieces, piece];
}
