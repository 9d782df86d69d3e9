/** One file of a bundle. */
export interface Part {
  readonly name: string;
  readonly text: string;
  /** Bytes at the beginning of the source that are not in it. */
  readonly dropped: number;
}

/** What should be in a bundle and is not, with the reason. */
export interface Missing {
  readonly name: string;
  readonly why: string;
}

export interface Gathered {
  readonly parts: readonly Part[];
  readonly missing: readonly Missing[];
}

export const partOf = (name: string, content: unknown): Part => ({
  name,
  text: `${JSON.stringify(content, null, 2)}\n`,
  dropped: 0,
});

/** In a few words, for people; a path is not repeated. */
export function whyOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
  const words: Readonly<Record<string, string>> = {
    ENOENT: "it is not there",
    EACCES: "the agent may not read it",
    EPERM: "the agent may not read it",
    ELOOP: "it is a symbolic link, which is not followed",
    ENOTDIR: "it is no directory, or a symbolic link, which is not followed",
  };
  return words[code ?? ""] ?? (error instanceof Error ? (code ?? error.message.slice(0, 200)) : "unreadable");
}
