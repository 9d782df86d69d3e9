import { pause } from "@mig/kit";

/** The parts of one look, none of which may hold up the others: a slow disk, a network mount that is gone. */
export interface LookParts {
  /** Runs it and waits at most so long. While an earlier run has not come back it is not run again. */
  run(name: string, part: () => Promise<void>): Promise<void>;
  /** What has not come back. */
  pending(): readonly string[];
}

/** `onProblem` is called once for each part: what is wrong with a disk is wrong at each look. */
export function createLookParts(
  withinMs: number,
  onProblem: (part: string, problem: unknown) => void,
): LookParts {
  const pending = new Set<string>();
  const told = new Set<string>();
  const tell = (part: string, problem: unknown): void => {
    if (told.has(part)) return;
    told.add(part);
    onProblem(part, problem);
  };
  return {
    async run(name, part) {
      if (pending.has(name)) return;
      pending.add(name);
      const done = part()
        .catch((error: unknown) => tell(name, error))
        .finally(() => pending.delete(name));
      const timer = new AbortController();
      await Promise.race([done, pause(withinMs, timer.signal)]);
      timer.abort();
      if (pending.has(name)) tell(name, `It took more than ${withinMs} ms.`);
    },
    pending: () => [...pending],
  };
}
