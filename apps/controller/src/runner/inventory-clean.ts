import type { Log } from "@mig/kit";
import type { Account } from "../github/account.ts";
import type { GithubApp } from "../github/app.ts";
import { findRunner } from "../github/list-runners.ts";
import type { Registrar } from "../github/registrar.ts";
import type { Store } from "../store/open-store.ts";
import { type Finding, isRemovable } from "./inventory-judge.ts";
import { isDrained, keepTurn, markDone, type Turn } from "./inventory-rows.ts";

/** What is done about the verdicts of inventory-judge.ts. */
export interface CleaningSettings {
  app: GithubApp;
  registrar: Registrar;
  store: Store;
  policyOf?(poolId: string): InventoryPolicy;
  /** Orders a VM to drain whose runner GitHub does not know. False when it cannot be told that now. */
  drain(vmId: string, reason: string): Promise<boolean>;
  onRemoved?(finding: Finding): void;
  pace: CleaningPace;
  log: Log;
  signal: AbortSignal;
}

/** Ghosts are never removed: nothing proves that they are ours. An operator does that at GitHub. */
export interface InventoryPolicy {
  leftover: "remove" | "report";
}

export interface CleaningPace {
  /** How long a VM may say that it has a runner which GitHub does not know. */
  missingAfterMs: number;
  /** A holder that says nothing for so long has lost its turn. One call at GitHub must fit. */
  heldMs: number;
  removalsMax: number;
}

/** Each is looked at once more just before: it may have got a job, or come back, since the list was made. */
export async function removeOver(
  { app, registrar, store, policyOf, pace, onRemoved, log, signal }: CleaningSettings,
  turn: Turn,
  account: Account,
  findings: readonly Finding[],
  runnerUrl: string,
): Promise<void> {
  const mayGo = ({ poolId }: Finding): boolean =>
    policyOf === undefined || poolId === null || policyOf(poolId).leftover === "remove";
  const due = findings.filter((finding) => isRemovable(finding) && mayGo(finding)).slice(0, pace.removalsMax);
  for (const finding of due) {
    if (signal.aborted) return;
    await keepTurn(store, turn, pace.heldMs);
    const { entry, runnerId, runnerName, vmId, verdict, reason } = finding;
    const now = await findRunner(app, account, runnerName);
    if (runnerId === null || now === undefined || now.id !== runnerId) continue;
    if (!isRemovable({ ...finding, isBusy: now.isBusy, isOnline: now.isOnline })) continue;
    const removal = await registrar.remove({ runnerUrl, runnerName, runnerId });
    log.info(
      {
        app: turn.app,
        account: turn.account,
        vm_id: vmId,
        runner_id: runnerId,
        runner_name: runnerName,
        verdict,
        reason,
        removal,
      },
      removal === "removed" ? "a runner was removed from GitHub" : "a runner is busy and stays at GitHub",
    );
    if (removal !== "removed") continue;
    await markDone(store, turn, entry, "removed_at");
    onRemoved?.(finding);
  }
}

/**
 * A VM that waits for jobs which can never come. Asked of GitHub by name once more, because lists move; and at most
 * a tenth of the VMs in one look, because when all are missing the fault is more likely GitHub's or ours.
 */
export async function drainMissing(
  { app, store, drain, pace, log, signal }: CleaningSettings,
  turn: Turn,
  account: Account,
  findings: readonly Finding[],
  nowMs: number,
  vmCount: number,
): Promise<void> {
  const due = findings.filter(
    ({ verdict, verdictAtMs }) => verdict === "missing" && nowMs - verdictAtMs >= pace.missingAfterMs,
  );
  let left = Math.max(1, Math.floor(vmCount / 10));
  for (const { entry, vmId, runnerName } of due) {
    if (signal.aborted || left === 0) return;
    await keepTurn(store, turn, pace.heldMs);
    if (vmId === null || (await isDrained(store, turn, entry))) continue;
    if ((await findRunner(app, account, runnerName)) !== undefined) continue;
    // One that is busy with another order is looked at again.
    if (!(await drain(vmId, "runner_missing"))) continue;
    left -= 1;
    await markDone(store, turn, entry, "drained_at");
    log.warn(
      { app: turn.app, account: turn.account, vm_id: vmId, runner_name: runnerName, missing: due.length },
      "GitHub does not know the runner of a VM; the VM is told to drain",
    );
  }
}
