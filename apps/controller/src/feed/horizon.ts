/**
 * Up to where the feed is settled: every row that will ever be there is there. Transactions take their numbers in one
 * order and commit in another, so the newest row that can be seen says nothing about the rows before it.
 *
 * A transaction has its own number (xid) before it takes one of the feed. So: note how far the feed's numbers are
 * given out, and take an xid after that. When all transactions with lower xids have ended, no row up to there is still
 * to come. A snapshot's own upper bound would not do for the xid: it is one past the newest that has *ended*.
 *
 * Order is that of the feed's numbers and not of xids: a transaction may get its xid, wait for a VM's lock, and write
 * after one with a higher xid. Under the lock of a VM the feed's numbers only grow.
 */
export interface Look {
  /** The last number that was given out, read first. */
  readonly last: number;
  /** Taken after it. */
  readonly ownXid: bigint;
  /** All transactions with lower xids have ended. */
  readonly oldestXid: bigint;
}

export interface Horizon {
  /** The feed is settled up to this number; undefined: not known yet. */
  readonly settled: number | undefined;
  readonly noted: { readonly last: number; readonly xid: bigint } | undefined;
}

export const noHorizon: Horizon = { settled: undefined, noted: undefined };

export function moveHorizon({ settled, noted }: Horizon, { last, ownXid, oldestXid }: Look): Horizon {
  if (oldestXid >= ownXid) return { settled: last, noted: undefined };
  if (noted === undefined) return { settled, noted: { last, xid: ownXid } };
  if (oldestXid < noted.xid) return { settled, noted };
  return { settled: noted.last, noted: { last, xid: ownXid } };
}
