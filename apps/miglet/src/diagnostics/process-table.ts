import { uptime } from "node:os";
import { redactText } from "@mig/kit";
import { allProcesses, type Process, readAtOnce } from "../runner/proc.ts";

const rowsMax = 300;
/** Of Linux, on every machine that it runs runners on. */
const ticksPerSecond = 100;

/**
 * The processes of the runner and all that its jobs have started, with what a process that hangs waits for. Of their
 * arguments only the program is told: the rest may be anything, a password among it. Undefined without /proc.
 */
export async function listProcesses(leaderPid: number | undefined): Promise<string | undefined> {
  const all = await allProcesses();
  if (all === undefined) return undefined;
  const own = all.filter(({ pid }) => pid === process.pid);
  const tree = leaderPid === undefined ? [] : below(all, leaderPid);
  const shown = [...own, ...tree].slice(0, rowsMax);
  const rows = [["PID", "PPID", "STATE", "AGE_S", "CPU_S", "RSS_KIB", "THREADS", "WAITS_IN", "PROGRAM"]];
  for (const [i, one] of shown.entries()) {
    rows.push(rowOf(one));
    if (i % 50 === 49) await new Promise(setImmediate);
  }
  const left = own.length + tree.length - shown.length;
  if (left > 0) rows.push([`${left} more are not shown`]);
  return rows.map((row) => `${row.join("\t")}\n`).join("");
}

function below(all: readonly Process[], leaderPid: number): Process[] {
  const children = Map.groupBy(all, ({ stat }) => stat.ppid);
  const found = new Set<Process>();
  // Whose parent has ended is still in the session or the group that the runner leads.
  const next = all.filter(
    ({ pid, stat }) => pid === leaderPid || stat.session === leaderPid || stat.pgrp === leaderPid,
  );
  for (let one = next.pop(); one !== undefined; one = next.pop()) {
    if (found.has(one)) continue;
    found.add(one);
    next.push(...(children.get(one.pid) ?? []));
  }
  return [...found].sort((a, b) => a.pid - b.pid);
}

function rowOf({ pid, stat }: Process): string[] {
  const status = readAtOnce(`/proc/${pid}/status`) ?? "";
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(status)?.[1] ?? "-";
  const program = (readAtOnce(`/proc/${pid}/cmdline`) ?? "").split("\0")[0] ?? "";
  const seconds = (ticks: number): string => (ticks / ticksPerSecond).toFixed(1);
  return [
    String(pid),
    String(stat.ppid),
    stat.state,
    Math.max(0, uptime() - stat.startTicks / ticksPerSecond).toFixed(0),
    seconds(stat.cpuTicks),
    field("VmRSS"),
    field("Threads"),
    (readAtOnce(`/proc/${pid}/wchan`) || "-").replace(/[^\w.-]/g, "?").slice(0, 64),
    redactText(program.replaceAll(/[\p{Cc}\p{Cf}]/gu, "?").slice(0, 200)),
  ];
}
