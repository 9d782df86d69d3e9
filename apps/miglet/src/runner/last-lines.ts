import { open } from "node:fs/promises";

const bytesMax = 8 * 1024;

/** The lines before an offset since the Listener's last start, as far as they fit; nothing when there is no file. */
export async function readLastLines(path: string, offset: number): Promise<string[]> {
  const from = Math.max(0, offset - bytesMax);
  const buffer = Buffer.alloc(offset - from);
  try {
    const file = await open(path, "r");
    try {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
      const lines = buffer.subarray(0, bytesRead).toString("utf8").split("\n");
      // The first one may be the end of a longer one.
      const whole = lines.slice(from === 0 ? 0 : 1, -1).map((line) => line.replace(/\r$/, "").slice(0, 500));
      const startedAt = whole.findLastIndex((line) => /(?:^|\s)Connected to GitHub$/.test(line));
      return whole.slice(Math.max(0, startedAt)).slice(-20);
    } finally {
      await file.close();
    }
  } catch {
    return [];
  }
}
