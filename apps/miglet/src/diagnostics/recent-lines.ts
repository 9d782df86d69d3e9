/** The last lines of this process's own log, as they were written: secrets are out of them. */
export interface RecentLines {
  keep(line: string): void;
  text(): string;
}

/** Bounded by what they hold; the oldest go first. */
export function createRecentLines(charactersMax = 256 * 1024): RecentLines {
  let lines: string[] = [];
  let first = 0;
  let characters = 0;
  return {
    keep(line) {
      lines.push(line);
      characters += line.length;
      while (characters > charactersMax && first < lines.length) {
        characters -= lines[first]?.length ?? 0;
        lines[first] = "";
        first += 1;
      }
      // Moved together now and then, and not for each line.
      if (first > 1_000 && first * 2 > lines.length) {
        lines = lines.slice(first);
        first = 0;
      }
    },
    text: () => lines.slice(first).join(""),
  };
}
