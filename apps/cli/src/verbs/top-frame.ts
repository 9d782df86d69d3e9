import { asObject, readText, type Unknown } from "@mig/protocol";
import { cutTo, padTo } from "../display-width.ts";
import { ageOf, type Column, printable, renderTable } from "../table.ts";
import type { Io } from "../verb.ts";
import { plain } from "./list-verb.ts";

/** One picture of the VMs: pure, so that any width can be tried. */
const job = (vm: Unknown): string | undefined => {
  const current = asObject(vm["current_job"]) ?? {};
  return readText(current, "job_name") ?? readText(current, "job_id");
};
const problem = (vm: Unknown): string | undefined => {
  const told = asObject(vm["problem"]) ?? {};
  const isAway = vm["reachability"] === "unreachable";
  return readText(told, "message") ?? readText(told, "code") ?? (isAway ? "does not answer" : undefined);
};

const columns: readonly Column[] = [
  plain("VM", "vm_id"),
  plain("STATE", "state"),
  { title: "JOB", of: job },
  { title: "AGE", of: (vm) => ageOf(vm["created_at"]) },
  { title: "PROBLEM", of: problem },
];

const isEnded = (vm: Unknown): boolean => vm["state"] === "terminated" || vm["state"] === "lost";

/** Those that need a look first, then those at work, then the others; each by name. */
export function arrange(vms: readonly Unknown[], showsEnded: boolean): Unknown[] {
  const rank = (vm: Unknown): number => (problem(vm) !== undefined ? 0 : job(vm) !== undefined ? 1 : 2);
  const name = (vm: Unknown): string => readText(vm, "vm_id") ?? "";
  return vms
    .filter((vm) => showsEnded || !isEnded(vm))
    .sort((a, b) => rank(a) - rank(b) || name(a).localeCompare(name(b)));
}

/** "3 VMs: 2 idle, 1 running". */
export function summaryOf(vms: readonly Unknown[]): string {
  const counts = new Map<string, number>();
  for (const vm of vms) {
    const state = printable(vm["state"]);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const parts = [...counts]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([state, count]) => `${count} ${state}`);
  return `${vms.length} VM${vms.length === 1 ? "" : "s"}${parts.length === 0 ? "" : `: ${parts.join(", ")}`}`;
}

/** For whoever does not sit before it: whole, however long. */
export function wholeFrame(vms: readonly Unknown[], io: Io): string {
  return `${summaryOf(vms)}\n${renderTable(vms, columns, io, "No VM fits.")}`;
}

const stateWidth = 13;
const ageWidth = 4;
const roomy = 90;

/** What fits into the screen: no line wraps, and what there is no room for is counted. */
export function screenFrame(vms: readonly Unknown[], width: number, height: number): string[] {
  const isRoomy = width >= roomy;
  const vmWidth = isRoomy ? 28 : Math.max(8, width - stateWidth - ageWidth - 4);
  const lines = vms.map((vm) => linesOf(vm, vmWidth, isRoomy));
  const head = [
    summaryOf(vms),
    row(["VM", "STATE", "AGE", ...(isRoomy ? ["JOB", "PROBLEM"] : [])], vmWidth, isRoomy),
  ];
  const room = Math.max(1, height - head.length - 1);
  const shown: string[] = [];
  let left = vms.length;
  for (const some of lines) {
    if (shown.length + some.length > room) break;
    shown.push(...some);
    left -= 1;
  }
  const foot = `${left > 0 ? `${left} more; ` : ""}q quits`;
  return [...head, ...shown, foot].map((line) => cutTo(line, width));
}

/** In a narrow terminal the job and the problem have a line of their own, where there is one. */
function linesOf(vm: Unknown, vmWidth: number, isRoomy: boolean): string[] {
  const [id, state, age] = [vm["vm_id"], vm["state"], ageOf(vm["created_at"])].map(printable);
  const cells = [id ?? "", state ?? "", age ?? ""];
  if (isRoomy) return [row([...cells, printable(job(vm)), printable(problem(vm))], vmWidth, true)];
  return [
    row(cells, vmWidth, false),
    ...(job(vm) === undefined ? [] : [`  job ${printable(job(vm))}`]),
    ...(problem(vm) === undefined ? [] : [`  ! ${printable(problem(vm))}`]),
  ];
}

function row(cells: readonly string[], vmWidth: number, isRoomy: boolean): string {
  const widths = [vmWidth, stateWidth, ageWidth, isRoomy ? 20 : 0];
  return cells
    .map((cell, i) => (widths[i] === undefined ? cell : padTo(cutTo(cell, widths[i]), widths[i])))
    .join("  ")
    .trimEnd();
}
