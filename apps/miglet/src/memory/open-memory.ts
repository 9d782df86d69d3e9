import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { uptime } from "node:os";
import { join } from "node:path";
import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type JsonObject, maybe } from "@mig/protocol";
import { type CommandJournal, openCommandJournal } from "./command-journal.ts";
import { openSaid, type Said } from "./said.ts";
import { openSpool, type Spool, type SpoolSettings } from "./spool.ts";
import { createStateFile, findState, type StateFile } from "./state-file.ts";

export interface MemorySettings {
  directory: string;
  spool?: Partial<Omit<SpoolSettings, "directory" | "log">>;
  /** Of this boot of the machine; read from the kernel when absent (tests give it). */
  bootId?: string;
  log: Log;
}

/**
 * All that survives a restart of the agent. Same boot and intact files → same incarnation, the seq goes on. Another
 * boot, a broken state file or a missing spool → a new incarnation that begins at seq 1, because a number that is
 * given twice in one incarnation would make the controller drop the second event as a duplicate.
 */
export interface Memory {
  state: StateFile;
  spool: Spool;
  /** Of earlier incarnations, not yet delivered, oldest first. */
  leftovers: Spool[];
  journal: CommandJournal;
  said: Said;
  /** The agent ran before in this boot with this memory: look for its runner, do not say `vm_started` again. */
  resumed: boolean;
  /** What was found broken and set aside: one `error` event each. */
  problems: JsonObject[];
  deadLetterPath: string;
  close(): Promise<void>;
}

/** Throws MigError `state_unwritable` when the directory cannot be made. */
export async function openMemory(settings: MemorySettings): Promise<Memory> {
  const { directory, log } = settings;
  const spools = join(directory, "spool");
  try {
    await mkdir(spools, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new MigError(
      "state_unwritable",
      `The state directory ${directory} cannot be made: give the agent a directory that it may write to.`,
      { cause },
    );
  }
  const bootId = settings.bootId ?? (await readBootId());
  const statePath = join(directory, "state.json");
  const found = await findState(statePath, log);
  const problems: JsonObject[] = [];
  if (found.brokenAt !== undefined) problems.push({ code: "state_broken", kept_at: found.brokenAt });

  const older = (await readdir(spools, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const before = found.memory;
  const resumed =
    before !== undefined &&
    before.bootId === bootId &&
    older.some((entry) => entry.name === before.incarnation);
  // Damage makes another install of it: the same boot may then have another incarnation.
  const isSameInstall = before !== undefined && (resumed || before.bootId !== bootId);
  const installId = isSameInstall ? before.installId : randomUUID();
  const incarnation = resumed ? before.incarnation : `${bootId.slice(0, 8)}-${installId.slice(-12)}`;
  const state = createStateFile(
    statePath,
    resumed
      ? before
      : {
          version: 1,
          installId,
          bootId,
          incarnation,
          bornAtUptimeS: uptime(),
          state: "initializing",
          draining: false,
          // The metadata outlives a boot; what was used up there stays so.
          ...maybe("usedGrant", before?.usedGrant),
          // An operator's wish is for the machine, not for one boot of it.
          ...maybe("config", before?.config),
        },
    log,
  );
  await state.change({});

  const openOne = (name: string): Promise<Spool> =>
    openSpool({ ...settings.spool, directory: join(spools, name), log });
  const spool = await openOne(incarnation);
  const leftovers: Spool[] = [];
  for (const { name } of older) {
    if (name === incarnation) continue;
    const leftover = await openOne(name);
    if (leftover.pending() > 0) leftovers.push(leftover);
    else {
      await leftover.close();
      await rm(join(spools, name), { recursive: true, force: true }).catch(() => {});
    }
  }
  for (const one of [spool, ...leftovers]) problems.push(...one.takeProblems());
  const journal = await openCommandJournal(join(directory, "commands.jsonl"), log);
  return {
    state,
    spool,
    leftovers,
    journal,
    said: await openSaid(state, spool.lastSeq()),
    resumed,
    problems,
    deadLetterPath: join(directory, "refused-events.jsonl"),
    async close() {
      for (const one of [spool, ...leftovers]) await one.close();
      await journal.close();
      await state.change({});
    },
  };
}

async function readBootId(): Promise<string> {
  try {
    return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  } catch {
    // Off Linux (development): the minute in which the machine started.
    return `boot${Math.round((Date.now() / 1000 - uptime()) / 60)}`;
  }
}
