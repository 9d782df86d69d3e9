import { type Log, pause, uuid7 } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { accountOf } from "../github/account.ts";
import type { Pool } from "../github/grant-source.ts";
import { listRunners } from "../github/list-runners.ts";
import { type CleaningPace, type CleaningSettings, drainMissing, removeOver } from "./inventory-clean.ts";
import { type Finding, judgeRunners, stemIn, type Verdict, verdicts } from "./inventory-judge.ts";
import {
  endTurn,
  keepTurn,
  type Place,
  placeOf,
  readClock,
  readGrantUrls,
  readKnown,
  type Turn,
  takeTurn,
  writeFindings,
} from "./inventory-rows.ts";

/**
 * Holds GitHub's list of runners against our VMs and grants, every five minutes for each account that an App serves,
 * one replica at a time, and cleans up what is proven to be ours and over (reliability-security §6 F17). First
 * GitHub's list, then our tables: whatever of ours is in the list was in the tables before.
 */
export interface InventorySettings extends Omit<CleaningSettings, "pace"> {
  /** The pools that this App serves, as they are now. */
  pools(): readonly Pool[];
  poolOf(poolId: string): Pool | undefined;
  pace?: Partial<InventoryPace>;
}

export interface InventoryPace extends CleaningPace {
  everyMs: number;
  /** How long GitHub may not hear a runner whose VM lives. */
  offlineAfterMs: number;
}

const usualPace: InventoryPace = {
  everyMs: 5 * 60_000,
  offlineAfterMs: 10 * 60_000,
  missingAfterMs: 10 * 60_000,
  heldMs: 2 * 60_000,
  removalsMax: 50,
};

export interface Inventory {
  /** Looks now at what is due. For tests and for the loop. */
  look(): Promise<void>;
  closed: Promise<void>;
}

export function startInventory(settings: InventorySettings): Inventory {
  const { app, store, log, signal } = settings;
  const pace = { ...usualPace, ...settings.pace };
  const holder = uuid7();

  async function look(): Promise<void> {
    const urls = [
      ...settings.pools().map(({ runnerUrl }) => runnerUrl),
      ...(await readGrantUrls(store, app.id)),
    ];
    const urlByAccount = new Map(urls.map((url) => [placeOf(url), url]));
    for (const [account, runnerUrl] of urlByAccount) {
      if (signal.aborted || account === "") continue;
      const turn = await takeTurn(store, { app: app.id, account }, holder, pace.heldMs);
      if (turn !== undefined) await lookAt(turn, runnerUrl);
    }
  }

  async function lookAt(turn: Turn, runnerUrl: string): Promise<void> {
    const about = { app: turn.app, account: turn.account };
    let problem: string | null = null;
    // Spread, so that the accounts of a start do not come back together for ever.
    let nextInMs = pace.everyMs * (0.9 + 0.2 * Math.random());
    try {
      await compare({ ...settings, pace }, turn, runnerUrl);
    } catch (error) {
      if (signal.aborted) nextInMs = 0;
      problem = error instanceof MigError ? error.message : "the look failed; see the log";
      const waitMs = error instanceof MigError ? error.retryAfterMs : undefined;
      if (waitMs !== undefined) nextInMs = Math.min(nextInMs, Math.max(waitMs, pace.everyMs / 10));
      if (!signal.aborted) log.warn({ ...about, error }, "GitHub's runners could not be compared with ours");
    }
    await endTurn(store, turn, { nextInMs, problem });
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      // Often enough to take over the turn of a replica that has died.
      await pause((pace.everyMs / 10) * (0.5 + Math.random()), signal);
      if (signal.aborted) return;
      await look().catch((error: unknown) => {
        if (!signal.aborted) log.warn({ app: app.id, error }, "the runner inventory rests for now");
      });
    }
  }

  return { look, closed: run() };
}

type Comparing = InventorySettings & { pace: InventoryPace };

async function compare(settings: Comparing, turn: Turn, runnerUrl: string): Promise<void> {
  const { app, store, pace, poolOf, log } = settings;
  const account = accountOf(runnerUrl);
  // By the database's clock, as all that it is compared with.
  const askedAtMs = await readClock(store);
  const list = await listRunners(app, account, () => keepTurn(store, turn, pace.heldMs));
  const names = list.runners.map(({ name }) => name);
  const known = await readKnown(
    store,
    turn,
    names,
    names.flatMap((name) => stemIn(name) ?? []),
  );
  // A VM's word counts where its pool registers, and nowhere else.
  const vms = known.vms.map((vm) =>
    placeOf(poolOf(vm.poolId)?.runnerUrl ?? "") === turn.account ? vm : { ...vm, runnerName: null },
  );
  const findings = judgeRunners({
    nowMs: known.nowMs,
    askedAtMs,
    isComplete: list.isComplete,
    runners: list.runners,
    grants: known.grants,
    vms,
    before: known.before,
    offlineAfterMs: pace.offlineAfterMs,
  });
  await writeFindings(store, turn, findings, { isComplete: list.isComplete, heldMs: pace.heldMs });
  tell(findings, new Set(known.before.map(({ entry }) => entry)), turn, log);
  await removeOver(settings, turn, account, findings, runnerUrl);
  await drainMissing(settings, turn, account, findings, known.nowMs, vms.length);
}

function tell(findings: readonly Finding[], before: ReadonlySet<string>, { app, account }: Place, log: Log) {
  const counts = Object.fromEntries(verdicts.map((verdict) => [verdict, 0])) as Record<Verdict, number>;
  for (const { verdict } of findings) counts[verdict] += 1;
  log.info({ app, account, ...counts }, "GitHub's runners were compared with ours");
  const ghosts = findings.filter(({ verdict, entry }) => verdict === "ghost" && !before.has(entry));
  for (const { runnerId, runnerName, reason } of ghosts.slice(0, 20))
    log.warn(
      { app, account, runner_id: runnerId, runner_name: runnerName, reason, ghosts: ghosts.length },
      "a runner looks like ours and is not; see who has registered it",
    );
}
