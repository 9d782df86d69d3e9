import type { Log } from "@mig/kit";
import { agentStates } from "@mig/lifecycle";
import {
  type EventType,
  type JsonObject,
  maybe,
  PRODUCT_VERSION,
  readCompleted,
  type VmHealth,
} from "@mig/protocol";
import type { Settings } from "./boot/settings-table.ts";
import { createHostMeter } from "./heartbeat/host.ts";
import { createSampler, type Sampler } from "./heartbeat/sample.ts";
import { judgeResources, noMarks } from "./heartbeat/watermarks.ts";
import type { Input, State } from "./life/words.ts";
import type { ControllerClock } from "./link/controller-clock.ts";
import type { Figures } from "./local/metrics.ts";
import type { LocalPage } from "./local/page.ts";
import { startWatchdog, type Watchdog } from "./local/watchdog.ts";
import type { Memory } from "./memory/open-memory.ts";
import { reportOf, statusOf } from "./status.ts";

/** What belongs to this machine only: its figures and marks, the page on loopback, systemd's watchdog. */
export interface LocalKeeper {
  readonly sampler: Sampler;
  readonly watchdog: Watchdog;
  readonly tally: Tally;
  close(): Promise<void>;
}

/** Counts for the page. */
export interface Tally {
  event(type: EventType, data: JsonObject): void;
  command(outcome: "succeeded" | "failed" | "refused"): void;
}

export interface LocalKeeperSettings {
  settings: Settings;
  environment: Readonly<Record<string, string | undefined>>;
  memory: Memory;
  poolId(): string;
  controllerClock: ControllerClock;
  log: Log;
  state(): State;
  feed(input: Input): void;
  /** An input goes through the mailbox. */
  isAlive(): Promise<boolean>;
}

export async function createLocalKeeper(about: LocalKeeperSettings): Promise<LocalKeeper> {
  const { settings, environment, memory, controllerClock, log, feed, state } = about;
  let marks = noMarks;
  let health: VmHealth | undefined;
  const limits = {
    diskFreeMib: settings["limits.disk_free_mib"],
    memoryAvailableMib: settings["limits.memory_available_mib"],
  };
  const sampler = createSampler({
    intervalMs: settings["metrics.collection_interval"],
    measure: createHostMeter({
      diskPath: settings["runner.dir"],
      includeDisk: settings["metrics.include_disk"],
      includeNetwork: settings["metrics.include_network"],
    }),
    onSample(sample) {
      health = sample;
      const judged = judgeResources(marks, sample, limits);
      marks = judged.state;
      for (const low of judged.lows) feed({ on: "low", ...low });
    },
    log: log.child({ component: "metrics" }),
  });
  const counts = { events: 0, jobs: 0, commands: { succeeded: 0, failed: 0, refused: 0 } };
  let lastJob: Figures["lastJob"];
  const tally: Tally = {
    event(type, data) {
      counts.events += 1;
      if (type !== "job_completed") return;
      counts.jobs += 1;
      const { usage, durationMs } = readCompleted(data);
      lastJob = { ...usage, ...maybe("durationMs", durationMs) };
    },
    command(outcome) {
      counts.commands[outcome] += 1;
    },
  };
  const figures = (): Figures => {
    const now = state();
    const { rss } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    return {
      version: PRODUCT_VERSION,
      state: now.at,
      states: agentStates,
      isLinked: now.linked,
      isBusy: reportOf(now).runner.state === "running",
      spool: memory.spool.figures(),
      events: counts.events,
      commands: counts.commands,
      residentBytes: rss,
      cpuSeconds: (user + system) / 1_000_000,
      uptimeSeconds: Math.round(process.uptime()),
      skewMs: controllerClock.skewMs(),
      health,
      jobs: counts.jobs,
      lastJob,
    };
  };
  const status = (): JsonObject => {
    const { states: _all, health: machine, lastJob: job, commands, spool, skewMs, ...rest } = figures();
    return {
      ...(JSON.parse(JSON.stringify({ ...rest, ...statusOf(state()), spool, commands })) as JsonObject),
      vm_id: settings.vm_id,
      pool_id: about.poolId() || null,
      incarnation: memory.state.read().incarnation,
      clock_skew_ms: skewMs ?? null,
      machine: machine === undefined ? null : (JSON.parse(JSON.stringify(machine)) as JsonObject),
      last_job: job === undefined ? null : (JSON.parse(JSON.stringify(job)) as JsonObject),
    };
  };
  const page = await openPage(about, figures, status);
  const watchdog = await startWatchdog({
    notifySocket: environment["NOTIFY_SOCKET"],
    watchdogUsec: environment["WATCHDOG_USEC"],
    isAlive: about.isAlive,
    log: log.child({ component: "watchdog" }),
  });
  sampler.start();
  void watchdog.tell("READY=1", "STATUS=initializing");
  return {
    sampler,
    watchdog,
    tally,
    async close() {
      sampler.close();
      watchdog.close();
      await page?.close();
    },
  };
}

async function openPage(
  { settings, log }: LocalKeeperSettings,
  figures: () => Figures,
  status: () => JsonObject,
): Promise<LocalPage | undefined> {
  const listen = settings["metrics.listen"];
  if (listen === undefined) return undefined;
  const { openLocalPage } = await import("./local/page.ts");
  return openLocalPage({ listen, figures, status, log: log.child({ component: "metrics" }) });
}
