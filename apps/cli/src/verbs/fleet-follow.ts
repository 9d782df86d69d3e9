import { pause } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { type Api, ApiError } from "../api.ts";
import type { Asked } from "../options.ts";
import { inPath, pathOf, rowsOf } from "../pages.ts";
import { renderTable } from "../table.ts";
import { exitCodes } from "../verb.ts";
import { plain, sayJson } from "./list-verb.ts";

/** Looking at a fleet order until it ends. */
const lookMs = 500;
/** Longer than a restart takes. */
const patienceMs = 60_000;

export interface Counts {
  total: number;
  ended: number;
  sent: number;
  failed: number;
  skipped: number;
}

export function countsOf(order: Unknown): Counts {
  const progress = asObject(order["progress"]) ?? {};
  const count = (name: string): number => Number(progress[name] ?? 0);
  const [total, failed, skipped] = [count("total"), count("failed"), count("skipped")];
  return { total, sent: count("sent"), failed, skipped, ended: count("succeeded") + failed + skipped };
}

/**
 * `going`: more is to come by itself. A paused order waits for a person, and a cancelled one whose last VMs have ended
 * is over: neither did what was asked.
 */
export function endOf(order: Unknown): "going" | "done" | "failed" {
  const state = readText(order, "state");
  const { sent, failed } = countsOf(order);
  if (state === "running" || sent > 0) return "going";
  return state === "done" && failed === 0 ? "done" : "failed";
}

/** One line that is written over in a terminal, a new line for each change elsewhere; `--json` is silent till the end. */
export async function follow({ api, io, has }: Asked, id: string): Promise<number> {
  const isLive = Number.isFinite(io.width) && process.stdout.isTTY;
  const isQuiet = has("json");
  let shown = "";
  for (;;) {
    const order = await lookPatiently(api, id, io.signal);
    const line = lineOf(order);
    if (!isQuiet && line !== shown)
      io.out(isLive ? `\r${cut(line, io.width).padEnd(cut(shown, io.width).length)}` : `${line}\n`);
    shown = line;
    const end = endOf(order);
    const isStopped = io.signal.aborted;
    if (end === "going" && !isStopped) {
      await pause(lookMs, io.signal).catch(() => {});
      continue;
    }
    if (!isQuiet && isLive) io.out("\n");
    if (isQuiet) sayJson(io, order);
    else tellProblems(order, id, io);
    return end === "done" ? exitCodes.done : exitCodes.failed;
  }
}

/** The order goes on without us: a controller that is busy or starts again is no reason to stop looking. */
async function lookPatiently(api: Api, id: string, signal: AbortSignal): Promise<Unknown> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    try {
      return await api.call("GET", pathOf(`fleet/commands/${inPath(id)}`));
    } catch (error) {
      const isPassing =
        error instanceof ApiError &&
        (error.status === undefined || [429, 502, 503, 504].includes(error.status));
      if (!isPassing || signal.aborted || performance.now() > untilMs) throw error;
      await pause(lookMs, signal).catch(() => {});
    }
  }
}

function lineOf(order: Unknown): string {
  const { total, ended, sent, failed, skipped } = countsOf(order);
  const bad = `${failed > 0 ? `, ${failed} failed` : ""}${skipped > 0 ? `, ${skipped} skipped` : ""}`;
  return `${readText(order, "state") ?? "?"} ${ended}/${total}, ${sent} at work${bad}`;
}

/** A line that wraps could not be written over. */
const cut = (line: string, width: number): string => line.slice(0, Math.max(1, width - 1));

function tellProblems(order: Unknown, id: string, io: Asked["io"]): void {
  const problems = rowsOf(order, "problems");
  if (problems.length > 0)
    io.out(
      renderTable(problems, [plain("VM", "vm_id"), plain("STATE", "state"), plain("WHY", "message")], io, ""),
    );
  if (readText(order, "state") === "paused")
    io.out(`Look at what failed, then: migctl fleet resume ${id}  or: migctl fleet cancel ${id}\n`);
}
