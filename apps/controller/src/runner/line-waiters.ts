/**
 * Who waits in a call for a grant. Each is woken for its own VM only, and one look at the table serves all of them:
 * when each looked for itself, sixty waiting VMs cost the database more than the grants did (bench/grants.ts).
 */
export interface LineWaiters {
  /** Resolves when the grant may have changed, and after `withinMs` in any case. */
  wait(who: { id: string; vmId: string }, withinMs: number): Promise<void>;
  /** Something of this VM's has changed. */
  wake(vmId: string): void;
}

interface Waiter {
  id: string;
  vmId: string;
  go(): void;
}

/** Another replica may have made the grant, or a VM's end made it void: only the table tells. */
const lookMs = 250;

/** `settledOf`: which of these grants wait for nothing any more. */
export function createLineWaiters(
  settledOf: (ids: readonly string[]) => Promise<readonly string[]>,
): LineWaiters {
  const waiting = new Set<Waiter>();
  let isLooking = false;

  function lookSoon(): void {
    if (isLooking || waiting.size === 0) return;
    isLooking = true;
    setTimeout(() => {
      look()
        // The database is away: each waiter hears that for itself when its time is over.
        .catch(() => {})
        .finally(() => {
          isLooking = false;
          lookSoon();
        });
    }, lookMs);
  }

  async function look(): Promise<void> {
    if (waiting.size === 0) return;
    const settled = new Set(await settledOf([...new Set([...waiting].map(({ id }) => id))]));
    for (const waiter of [...waiting]) if (settled.has(waiter.id)) waiter.go();
  }

  return {
    wait: ({ id, vmId }, withinMs) =>
      new Promise((resolve) => {
        const waiter: Waiter = {
          id,
          vmId,
          go() {
            clearTimeout(timer);
            waiting.delete(waiter);
            resolve();
          },
        };
        const timer = setTimeout(() => waiter.go(), withinMs);
        waiting.add(waiter);
        lookSoon();
      }),
    wake(vmId) {
      for (const waiter of [...waiting]) if (waiter.vmId === vmId) waiter.go();
    },
  };
}
