import { join } from "node:path";
import { redact } from "@mig/kit";
import { type DiagnosticsOrder, maybe, PRODUCT_VERSION, toJsonObject } from "@mig/protocol";
import type { Settings } from "../boot/settings-table.ts";
import { showValues } from "../boot/show.ts";
import type { Memory } from "../memory/open-memory.ts";
import { hideSecrets } from "./hide-secrets.ts";
import { gatherMachine } from "./machine-facts.ts";
import { type Bundle, packBundle } from "./pack-bundle.ts";
import { type Gathered, type Missing, type Part, partOf, whyOf } from "./part.ts";
import { listProcesses } from "./process-table.ts";
import { readTail } from "./read-tail.ts";
import type { RecentLines } from "./recent-lines.ts";
import { gatherRunner } from "./runner-parts.ts";

export interface CollectSettings {
  settings: Settings;
  memory: Pick<Memory, "state" | "spool">;
  recent?: RecentLines;
  /** The agent's state and its view of the link. */
  status(): Record<string, unknown>;
}

const commandsBytesMax = 64 * 1024;
/** A disk that hangs must not keep the rest from being seen. */
const partMs = 5_000;

/**
 * All that tells why a VM does not do what it should, without secrets. Each file is there or the manifest says why not;
 * the collecting itself never fails for want of one.
 */
export async function collectBundle(
  about: CollectSettings,
  commandId: string,
  { reason, maxBytes }: DiagnosticsOrder,
): Promise<Bundle> {
  const { settings, memory } = about;
  const remembered = memory.state.read();
  const runnerDir = remembered.runner?.dir ?? settings["runner.dir"];
  const gathered: Gathered[] = [];
  for (const [name, gather] of [
    ["agent", () => gatherAgent(about)],
    ["runner", () => gatherRunner(runnerDir, remembered.runner)],
    ["runner/processes.tsv", () => gatherProcesses(remembered.runner?.pid)],
    ["machine", () => gatherMachine([settings.state_dir, runnerDir])],
  ] as const)
    gathered.push(await inTime(name, gather));
  const head = {
    format: 1,
    command_id: commandId,
    vm_id: settings.vm_id,
    incarnation: remembered.incarnation,
    agent_version: PRODUCT_VERSION,
    made_at: new Date().toISOString(),
    ...maybe("reason", reason),
  };
  const all = {
    parts: gathered.flatMap(({ parts }) => parts),
    missing: gathered.flatMap(({ missing }) => missing),
  };
  return packBundle(all, toJsonObject(redact(head)), maxBytes);
}

async function gatherAgent({ settings, memory, recent, status }: CollectSettings): Promise<Gathered> {
  const { state, spool } = memory;
  const parts: Part[] = [
    partOf("agent/status.json", redact({ ...status(), events_last_seq: spool.lastSeq() })),
    partOf("agent/settings.json", showValues(settings)),
    partOf("agent/memory.json", redact(state.read())),
  ];
  const missing: Missing[] = [];
  if (recent === undefined) missing.push({ name: "agent/log.jsonl", why: "this process keeps none" });
  // Once more: a secret may have become known after the line was written.
  else parts.push({ name: "agent/log.jsonl", text: await hideSecrets(recent.text()), dropped: 0 });
  try {
    const { text, dropped } = await readTail(join(settings.state_dir, "commands.jsonl"), commandsBytesMax);
    parts.push({ name: "agent/commands.jsonl", text: await hideSecrets(text), dropped });
  } catch (error) {
    missing.push({ name: "agent/commands.jsonl", why: whyOf(error) });
  }
  return { parts, missing };
}

async function gatherProcesses(leaderPid: number | undefined): Promise<Gathered> {
  const text = await listProcesses(leaderPid);
  const name = "runner/processes.tsv";
  return text === undefined
    ? { parts: [], missing: [{ name, why: "there is no /proc to read" }] }
    : { parts: [{ name, text, dropped: 0 }], missing: [] };
}

async function inTime(name: string, gather: () => Promise<Gathered | Part[]>): Promise<Gathered> {
  let cancel: NodeJS.Timeout | undefined;
  const late = new Promise<Gathered>((resolve) => {
    cancel = setTimeout(() => resolve({ parts: [], missing: [{ name, why: "it took too long" }] }), partMs);
  });
  try {
    const found = await Promise.race([gather(), late]);
    return "parts" in found ? found : { parts: found, missing: [] };
  } catch (error) {
    return { parts: [], missing: [{ name, why: whyOf(error) }] };
  } finally {
    clearTimeout(cancel);
  }
}
