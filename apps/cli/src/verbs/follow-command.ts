import { formatDurationMs, pause } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import type { Asked, Option } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { openProgress } from "../progress.ts";
import { printable, renderFields } from "../table.ts";
import { exitCodes } from "../verb.ts";
import { sayJson } from "./list-verb.ts";
import { lookMs, lookPatiently } from "./look-patiently.ts";
import { readTime } from "./order-options.ts";

/** Looking at one command until the VM has answered. */
export const waitOptions: Readonly<Record<string, Option>> = {
  wait: { help: "show how it goes until the VM has done it" },
  timeout: { takes: "TIME", help: "with --wait: look no longer; the order stands" },
};

export const waitExits = `0 done, 1 refused or not reached, 2 the command line is wrong;
      with --wait: 4 failed, 5 rejected, 6 expired, 7 cancelled or superseded, 8 not over within --timeout,
      130 Ctrl-C (the order stands)`;

const endCodes: Readonly<Record<string, number>> = {
  succeeded: exitCodes.done,
  failed: exitCodes.commandFailed,
  rejected: exitCodes.commandRejected,
  expired: exitCodes.commandExpired,
  cancelled: exitCodes.commandWithdrawn,
  superseded: exitCodes.commandWithdrawn,
};

const meanings: Readonly<Record<string, string>> = {
  pending: "waits for the VM",
  sent: "is on its way",
  acknowledged: "the VM is at it",
};

/** `--json` is silent until the end and says then what the command is. */
export async function followCommand(asked: Asked, id: string): Promise<number> {
  const { api, io, has } = asked;
  const timeoutMs = readTime(asked, "timeout") ?? Number.POSITIVE_INFINITY;
  const progress = openProgress(io, has("json"));
  const startedMs = performance.now();
  let command: Unknown = {};
  for (;;) {
    const path = pathOf(`commands/${inPath(id)}`);
    command = (await lookPatiently(api, path, io.signal).catch(progress.fail)) ?? command;
    const state = readText(command, "state") ?? "?";
    const passedMs = performance.now() - startedMs;
    const clock = passedMs < 1_000 ? "" : `, ${formatDurationMs(Math.floor(passedMs / 1_000) * 1_000)}`;
    progress.show(lineOf(command, state), clock);
    const isOver = Object.hasOwn(endCodes, state);
    const isLate = passedMs >= timeoutMs;
    if (!isOver && !isLate && !io.signal.aborted) {
      await pause(Math.min(lookMs, timeoutMs - passedMs), io.signal).catch(() => {});
      continue;
    }
    progress.end();
    if (has("json")) sayJson(io, command);
    else if (isOver) tellEnd(command, io);
    else
      io.out(
        `It is not over; the order stands.\nSee how it goes:\n  migctl command show ${id} --wait\nTake it back, as long as the VM has not got it:\n  migctl command cancel ${id}\n`,
      );
    // Where it was Ctrl-C the frame says so.
    return isOver ? (endCodes[state] ?? exitCodes.failed) : exitCodes.timeout;
  }
}

function lineOf(command: Unknown, state: string): string {
  const meaning = meanings[state];
  return `${readText(command, "type")} ${state}${meaning === undefined ? "" : `: ${meaning}`}`;
}

/** What the VM said to it. */
function tellEnd(command: Unknown, io: Asked["io"]): void {
  const message = readText(command, "message");
  if (message !== undefined && message !== "") io.out(`${printable(message)}\n`);
  const result = asObject(command["result"]) ?? {};
  if (Object.keys(result).length > 0) io.out(renderFields(result, io));
}
