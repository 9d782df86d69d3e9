import { pause } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import type { Asked } from "../options.ts";
import { inPath, pathOf, rowsOf } from "../pages.ts";
import { openProgress } from "../progress.ts";
import { renderTable } from "../table.ts";
import { exitCodes } from "../verb.ts";
import { plain, sayJson } from "./list-verb.ts";
import { lookMs, lookPatiently } from "./look-patiently.ts";

/** Looking at a fleet order until it ends. */
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

/** Until it ends; Ctrl-C ends the looking, and the order goes on. `--json` is silent till the end. */
export async function follow({ api, io, has }: Asked, id: string): Promise<number> {
  const progress = openProgress(io, has("json"));
  let order: Unknown = { state: "running" };
  for (;;) {
    const path = pathOf(`fleet/commands/${inPath(id)}`);
    order = (await lookPatiently(api, path, io.signal).catch(progress.fail)) ?? order;
    progress.show(lineOf(order));
    const end = endOf(order);
    const isStopped = io.signal.aborted;
    if (end === "going" && !isStopped) {
      await pause(lookMs, io.signal).catch(() => {});
      continue;
    }
    progress.end();
    if (has("json")) sayJson(io, order);
    else tellProblems(order, id, io);
    if (end === "going" && !has("json"))
      io.out(
        `The order goes on.\nSee how it goes:\n  migctl fleet show ${id} --wait\nEnd it:\n  migctl fleet cancel ${id}\n`,
      );
    return end === "done" ? exitCodes.done : exitCodes.failed;
  }
}

function lineOf(order: Unknown): string {
  const { total, ended, sent, failed, skipped } = countsOf(order);
  const bad = `${failed > 0 ? `, ${failed} failed` : ""}${skipped > 0 ? `, ${skipped} skipped` : ""}`;
  return `${readText(order, "state") ?? "?"} ${ended}/${total}, ${sent} at work${bad}`;
}

function tellProblems(order: Unknown, id: string, io: Asked["io"]): void {
  const problems = rowsOf(order, "problems");
  if (problems.length > 0)
    io.out(
      renderTable(problems, [plain("VM", "vm_id"), plain("STATE", "state"), plain("WHY", "message")], io, ""),
    );
  if (readText(order, "state") === "paused")
    io.out(`Look at what failed, then:\n  migctl fleet resume ${id}\nor:\n  migctl fleet cancel ${id}\n`);
}
