import { ChainCheck, type Head, type Link } from "./chain.ts";

/** What a chain is read from: a store, or a test's own pages. */
export interface ChainSource {
  head(): Promise<Head>;
  page(after: number, upTo: number, limit: number): Promise<Link[]>;
}

export interface Verdict {
  /** That were found to be good, up to the first problem. */
  readonly entries: number;
  readonly head: string;
  readonly problem: string | undefined;
}

/** Held at once, whatever the length of the chain: a chain of years does not fit into memory. */
export const pageMax = 1_000;

/**
 * Reads a chain from its beginning to the head that it has now. What is written meanwhile is left for the next time:
 * otherwise a busy organization's chain would never come to its end.
 */
export async function verifyChain(source: ChainSource): Promise<Verdict> {
  const head = await source.head();
  const check = new ChainCheck();
  while (check.problem === undefined && check.seq < head.seq) {
    const page = await source.page(check.seq, head.seq, pageMax);
    if (page.length === 0) break;
    check.take(page);
  }
  check.end(head);
  return { entries: check.seq, head: head.hash, problem: check.problem };
}
