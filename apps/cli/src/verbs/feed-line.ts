import type { FeedItem } from "@mig/api-client";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { printable } from "../table.ts";
import { countsOf } from "./fleet-follow.ts";

/** One line for an item: when, what it is about, what has happened. What VMs and operators wrote cannot steer the terminal. */
export function lineOf(item: FeedItem): string {
  const at = printable(item.at).slice(11, 19);
  return `${at} ${item.type === "fleet" ? "fleet" : printable(item.vm_id)} ${printable(wordsOf(item))}`;
}

function wordsOf(item: FeedItem): string {
  switch (item.type) {
    case "vm": {
      const { state, reachability, runner_state: runner, before, is_drained: isDrained } = item.vm;
      const moved = before === null || before.state === state ? state : `${before.state} → ${state}`;
      return `${moved}, ${reachability}, runner ${runner}${isDrained ? ", drained" : ""}`;
    }
    case "command": {
      const { id, type, state, attempt, message } = item.command;
      const again = attempt > 1 ? `, attempt ${attempt}` : "";
      return `command ${type} is ${state}${again}${message === null ? "" : `: ${message}`} (${id})`;
    }
    case "event": {
      const { type, refused } = item.event;
      return refused === null ? `told ${type}` : `told what was refused: ${refused}`;
    }
    case "fleet": {
      const { id, type, state } = item.fleet;
      const { total, ended, sent, failed } = countsOf(asObject(item.fleet) ?? {});
      return `${type} is ${state}: ${ended}/${total}, ${sent} at work, ${failed} failed (${id})`;
    }
  }
}

/** A VM as it is now, in the words of its changes. */
export function lineOfVm(vm: Unknown): string {
  const text = (key: string): string => printable(readText(vm, key));
  const at = new Date().toISOString().slice(11, 19);
  return `${at} ${text("vm_id")} ${text("state")}, ${text("reachability")}, runner ${text("runner_state")}`;
}

/** A line that is wider than the terminal goes on below, indented, at a space where there is one. */
export function fold(line: string, width: number): string {
  const pieces: string[] = [];
  let rest = line;
  for (let room = width; rest.length > room; room = Math.max(8, width - 2)) {
    const space = rest.lastIndexOf(" ", room);
    const at = space > room / 2 ? space : room;
    pieces.push(rest.slice(0, at));
    rest = rest.slice(at).trimStart();
  }
  return `${[...pieces, rest].join("\n  ")}\n`;
}
