import { pause } from "@mig/kit";
import { brakedWriteOffs, isMassLoss, isTerminal, reachabilityAfter } from "@mig/lifecycle";
import { sql } from "kysely";
import { expireCommands, resultWithinMs } from "../commands/expire.ts";
import { contextOf } from "../context.ts";
import { sweepOrders } from "../fleet/sweep-orders.ts";
import { tidyOrders } from "../fleet/tidy-orders.ts";
import { writeOff } from "../shutdown/close-vm.ts";
import { withUnit } from "../store/unit.ts";
import type { Beats } from "./beats.ts";
import type { Parts } from "./parts.ts";
import type { Sessions } from "./sessions.ts";
import { wakeWaiting } from "./wake-sessions.ts";

/**
 * What time does: each sweep writes heartbeats, moves the commands whose time has come, goes on with fleet orders, wakes sessions that have
 * something waiting, and looks for VMs that have fallen silent. There is no leader: every replica may sweep, each
 * change is judged again under the VM's lock by the database's clock, so it happens once.
 *
 * A VM that only an order has named (life 0) is not silent: it has never spoken. Others are silent only when
 * this replica has not heard them *and* the table says so. Nobody is judged while we may be
 * the fault ourselves: for a grace period after the start, after the database was away, and after our own clock
 * tick came late (a stalled or suspended process). When many fall silent at once, they are written off very slowly.
 */
export async function watch(parts: Parts, beats: Beats, sessions: Sessions): Promise<void> {
  const { pace, log, signal } = parts;
  let judgeFromMs = performance.now() + pace.graceMs;
  let lastTickMs = performance.now();
  let tidyAtMs = 0;
  const brake: Brake = { on: false, allowance: 0 };
  while (!signal.aborted) {
    await pause(pace.sweepMs, signal);
    const nowMs = performance.now();
    const lateMs = nowMs - lastTickMs - pace.sweepMs;
    lastTickMs = nowMs;
    if (lateMs > Math.max(2_000, 2 * pace.sweepMs)) {
      judgeFromMs = Math.max(judgeFromMs, nowMs + pace.graceMs);
      log.warn(
        { late_ms: Math.round(lateMs) },
        "this process stood still; silence is not judged for a while",
      );
    }
    try {
      await beats.flush();
      await sweepCommands(parts);
      await sweepOrders(parts);
      if (nowMs >= tidyAtMs && parts.rules.fleetKeptMs !== undefined) {
        tidyAtMs = nowMs + tidyEveryMs;
        await tidyOrders(parts.store, parts.rules.fleetKeptMs);
      }
      sessions.dropIdlePolls();
      beats.forgetSilent(pace.silence.lostAfterMs);
      if (nowMs >= judgeFromMs) await sweepSilence(parts, beats, brake, pace.sweepMs + Math.max(0, lateMs));
    } catch (error) {
      judgeFromMs = performance.now() + pace.graceMs;
      if (!signal.aborted) log.warn({ error }, "a sweep failed; silence is not judged for a while");
    }
  }
}

const vmsPerSweep = 500;
/** What is kept for days need not be looked at in every sweep. */
const tidyEveryMs = 60_000;

async function sweepCommands(parts: Parts): Promise<void> {
  const { store, rules, log } = parts;
  const due = await store.transact((tx) =>
    sql<{
      vmId: string;
    }>`select distinct vm_id as "vmId" from commands where state in ('pending', 'sent', 'acknowledged') and (
        (state = 'sent' and sent_at < now() - ${rules.commandAckMs} * interval '1 millisecond')
        or (state <> 'acknowledged' and expires_at < now())
        or (state = 'acknowledged' and acknowledged_at <
          now() - (${JSON.stringify(resultWithinMs)}::jsonb ->> type)::float8 * interval '1 millisecond')
      ) limit ${vmsPerSweep}`.execute(tx),
  );
  const vmIds = due.rows.map((row) => row.vmId);
  if (vmIds.length > 0) {
    await withUnit(store, { vmIds }, (unit) => {
      for (const vmId of vmIds) {
        const vm = unit.vm(vmId);
        if (vm !== undefined) expireCommands(contextOf(unit, vm, rules, log));
      }
    });
  }
  await wakeWaiting(parts);
}

const silentFor = (ms: number) => sql`last_seen < now() - ${ms} * interval '1 millisecond'`;

/** While on, `allowance` grows with time and each write-off takes one from it. */
interface Brake {
  on: boolean;
  allowance: number;
}

async function sweepSilence(parts: Parts, beats: Beats, brake: Brake, elapsedMs: number): Promise<void> {
  const { store, pace, rules, log } = parts;
  const bounds = pace.silence;
  const found = await store.transact(async (tx) => {
    const counts = await sql<{
      silent: number;
      live: number;
    }>`select count(*)::float8 as live, count(*) filter (where ${silentFor(bounds.unreachableAfterMs)})::float8 as silent
      from vms where state not in ('terminated', 'lost') and life > 0`.execute(tx);
    const { silent = 0, live = 0 } = counts.rows[0] ?? {};
    if (silent === 0) return { vmIds: [], silent, live };
    // Those for whom there is something to decide; the news first, or write-offs that the brake holds would hide it.
    const due = await sql<{ vmId: string }>`select vm_id as "vmId" from vms
      where state not in ('terminated', 'lost') and life > 0 and (
        (reachability = 'online' and ${silentFor(bounds.unreachableAfterMs)})
        or (current_job is null and ${silentFor(bounds.lostAfterMs)})
        or ${silentFor(bounds.lostWithJobAfterMs)}
      ) order by reachability = 'online' desc, last_seen limit ${vmsPerSweep}`.execute(tx);
    return { vmIds: due.rows.map((row) => row.vmId), silent, live };
  });
  const silent = found.vmIds.filter((vmId) => beats.silentMs(vmId) >= bounds.unreachableAfterMs);
  // All that are silent count, not only those that this sweep can look at.
  const silentVms = found.silent - (found.vmIds.length - silent.length);
  const wasOn = brake.on;
  brake.on = isMassLoss(silentVms, found.live);
  brake.allowance = brake.on ? Math.min(10, brake.allowance + brakedWriteOffs(found.live, elapsedMs)) : 0;
  if (brake.on && !wasOn) {
    const counts = { silent: silentVms, live: found.live };
    log.error(
      counts,
      "many VMs fell silent at once; the fault may be ours, so they are written off very slowly",
    );
  }
  if (silent.length === 0) return;
  await withUnit(store, { vmIds: silent }, (unit) => {
    for (const vmId of silent) {
      const vm = unit.vm(vmId);
      // Another replica may have been faster.
      if (vm === undefined || isTerminal(vm.state)) continue;
      const context = contextOf(unit, vm, rules, log);
      const verdict = reachabilityAfter(unit.nowMs - vm.lastSeenMs, vm.currentJob !== null, bounds);
      if (verdict === "lost" && (!brake.on || brake.allowance >= 1)) {
        brake.allowance -= brake.on ? 1 : 0;
        writeOff(context);
      } else if (verdict !== "online" && vm.reachability === "online") {
        vm.reachability = "unreachable";
        context.log.warn({ silent_ms: Math.round(unit.nowMs - vm.lastSeenMs) }, "a VM is unreachable");
      }
    }
  });
}
