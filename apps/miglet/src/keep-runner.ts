import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { Settings } from "./boot/settings-table.ts";
import type { RunnerMaterial, RunnerPin } from "./life/read-order.ts";
import type { FoundRunner, Input, RunnerIdentity } from "./life/words.ts";
import type { Memory } from "./memory/open-memory.ts";
import type { RunnerRecord } from "./memory/state-file.ts";
import { configureRunner } from "./runner/configure.ts";
import type { RunnerEnvironment } from "./runner/environment.ts";
import type { Installation } from "./runner/install/install-runner.ts";
import { retirePlace } from "./runner/install/places.ts";
import { type InstalledRunner, readRunnerFile } from "./runner/installed-runner.ts";
import { endOrphanedConfig } from "./runner/orphaned-config.ts";
import { findProgram } from "./runner/proc.ts";
import {
  adoptRunner,
  type RunnerListener,
  type SupervisedRunner,
  type SuperviseSettings,
  startRunner,
} from "./runner/supervise.ts";
import { newRecord } from "./runner/supervised-runner.ts";
import { drainRunner, type Verdict } from "./shutdown/drain.ts";

/**
 * The one runner of this VM: registered and started, found again, drained, stopped. Each call returns at once; what
 * comes of it is an input. A start that is under way is given up before anything else is done about the runner.
 */
export interface RunnerKeeper {
  find(): Promise<FoundRunner | undefined>;
  /** Without a command: by a grant of metadata. */
  start(
    commandId: string | undefined,
    runner: RunnerIdentity,
    material: RunnerMaterial,
    pin: RunnerPin,
  ): void;
  drain(verdict: Verdict): void;
  interrupt(): void;
  kill(): void;
  /** Stops watching; the runner goes on without us. */
  release(): Promise<void>;
}

export interface KeeperSettings {
  settings: Settings;
  memory: Memory;
  environment: RunnerEnvironment;
  /** Asks GitHub, by way of the controller, to let the runner go. */
  release?: () => Promise<Verdict>;
  feed(input: Input): void;
  log: Log;
}

export function createRunnerKeeper({
  settings,
  memory,
  environment,
  release,
  feed,
  log,
}: KeeperSettings): RunnerKeeper {
  const dir = settings["runner.dir"];
  let runner: SupervisedRunner | undefined;
  let starting: Promise<void> = Promise.resolve();
  let givingUp = new AbortController();
  // The directory was found unconfigured at the beginning of this life: what is there now, an earlier attempt left.
  let isLeftoverOurs = memory.resumed;

  const listener: RunnerListener = {
    onObservation: (observation) => feed({ on: "observed", observation }),
    onNews: (news) => feed({ on: "news", news }),
    onRecord: (record) => feed({ on: "recorded", record }),
    onExit: (exit) => feed({ on: "runner_exited", exit }),
  };
  const supervision = (
    installed: SuperviseSettings["installed"],
    identity: RunnerIdentity,
  ): SuperviseSettings => ({
    installed,
    name: identity.name,
    labels: [...identity.labels],
    ...maybe("id", identity.id),
    ...maybe("runnerUrl", identity.runnerUrl),
    ...maybe("runnerGroup", identity.runnerGroup),
    stateDir: settings.state_dir,
    bootId: memory.state.read().bootId,
    environment,
    launcher: settings["runner.launcher"],
    scope: settings["runner.scope"],
    timing: {
      listenMs: settings["runner.start_timeout"],
      usageMs: Math.min(2_000, settings["metrics.collection_interval"]),
    },
    chainHooks: {
      ...maybe("started", settings["runner.user_hooks.started"]),
      ...maybe("completed", settings["runner.user_hooks.completed"]),
    },
    log: log.child({ component: "runner" }),
  });
  /** Where a Listener works: in the image's directory, or in one that was downloaded. */
  async function findInhabited(): Promise<InstalledRunner | undefined> {
    const root = settings["runner.install_root"];
    const downloaded = (await readdir(root).catch(() => [])).map((name) => join(root, name));
    for (const at of [dir, ...downloaded]) {
      const installed = installedAt(at);
      if ((await findProgram(installed.listener)) !== undefined) return installed;
    }
    return undefined;
  }
  /** A process that died between starting its runner and writing that down: a second one must not be started. */
  async function findUnnoted(): Promise<RunnerRecord | undefined> {
    const installed = await findInhabited();
    const found = installed === undefined ? undefined : await findProgram(installed.listener);
    if (installed === undefined || found === undefined) return undefined;
    const { name = "", id } = (await readRunnerFile(installed.dir)) ?? {};
    const command = memory.journal.unfinished().findLast(({ type }) => type === "register_runner");
    const identity = { name, labels: settings["github.labels"], ...maybe("id", id) };
    return {
      ...newRecord({ ...supervision(installed, identity), ...maybe("commandId", command?.id) }),
      ...found,
    };
  }
  /**
   * Deleted first, signalled second: who wants the end on the agent's own account has no word of GitHub's yet. Where
   * nobody can be asked, the agent goes by what it sees itself.
   */
  async function deletedFirst(verdict: Verdict): Promise<Verdict> {
    if (verdict !== "unknown" || release === undefined || runner?.isAlive() !== true || runner.isBusy())
      return verdict;
    return release().catch((error: unknown) => {
      log.warn({ error }, "GitHub could not be asked to let the runner go.");
      return verdict;
    });
  }
  const stopNow = (one: SupervisedRunner): void => {
    one.expectEnd("stopped");
    one.interrupt();
  };

  /** Loaded when there is something to register: an agent that waits for its job needs none of it. */
  async function install(pin: RunnerPin, signal: AbortSignal): Promise<Installation> {
    const { installRunner } = await import("./runner/install/install-runner.ts");
    const isSame = pin.version === undefined || pin.version === settings["runner.version"];
    const wanted = {
      version: pin.version ?? settings["runner.version"],
      sha256: pin.sha256 ?? (isSame ? settings["runner.sha256"] : undefined),
      downloadUrl: pin.downloadUrl,
    };
    return installRunner(wanted, {
      imageDir: dir,
      installRoot: settings["runner.install_root"],
      privateDir: join(settings.state_dir, "download"),
      downloadUrl: settings["runner.download_url"],
      timeoutMs: settings["runner.download_timeout"],
      proxy: settings["runner.download_proxy"],
      caPath: settings["runner.download_ca_path"],
      environment,
      signal,
      log,
    });
  }

  async function register(
    commandId: string | undefined,
    identity: RunnerIdentity,
    material: RunnerMaterial,
    pin: RunnerPin,
  ): Promise<void> {
    const { signal } = givingUp;
    const orphans = await endOrphanedConfig(dir);
    if (orphans > 0) log.warn({ processes: orphans }, "A config.sh of an earlier agent was ended.");
    if (isLeftoverOurs) await removeRegistration(dir);
    const { source, version, ...installed } = await install(pin, signal);
    isLeftoverOurs = true;
    log.info({ dir: installed.dir, source, runner_version: version }, "A runner is there to be registered.");
    const { labels, name, runnerUrl, runnerGroup } = identity;
    const configured = await configureRunner({
      installed,
      registration: {
        name,
        labels: [...labels],
        ...maybe("runnerUrl", runnerUrl),
        ...maybe("runnerGroup", runnerGroup),
        material,
      },
      environment,
      disableUpdate: settings["runner.disable_update"],
      timeoutMs: settings["github.registration_timeout"],
      signal,
    });
    if (signal.aborted) throw new MigError("runner_start_failed", "The registration was given up.");
    const known: RunnerIdentity = { ...identity, ...configured };
    const jit = material.kind === "jit" ? { jitConfig: material.jitConfig } : {};
    await retirePlace(installed.dir);
    runner = await startRunner(
      { ...supervision(installed, known), ...jit, ...maybe("commandId", commandId) },
      listener,
    );
    if (signal.aborted) stopNow(runner);
    feed({ on: "runner_started", runner: known });
  }

  return {
    async find() {
      const { runner: noted, job } = memory.state.read();
      const record = noted ?? (memory.resumed ? await findUnnoted() : undefined);
      if (record === undefined) return undefined;
      const { name, id, labels, runnerUrl, runnerGroup, commandId, listened } = record;
      const identity: RunnerIdentity = {
        name,
        labels,
        ...maybe("id", id),
        ...maybe("runnerUrl", runnerUrl),
        ...maybe("runnerGroup", runnerGroup),
      };
      runner = await adoptRunner(record, job, supervision(installedAt(record.dir), identity), listener);
      const isBusy = await runner.checkBusy();
      log.info(
        { runner_name: name, pid: record.pid, alive: runner.isAlive(), busy: isBusy },
        "A runner was found again.",
      );
      return { identity, listened, isBusy, ...maybe("commandId", commandId) };
    },
    start(commandId, identity, material, pin) {
      givingUp = new AbortController();
      starting = register(commandId, identity, material, pin).catch((error: unknown) => {
        const known =
          error instanceof MigError
            ? error
            : new MigError("runner_start_failed", `The runner could not be started: ${String(error)}`);
        log.warn({ error: known, command_id: commandId }, "A registration failed.");
        const { code, message, category } = known;
        feed({ on: "runner_failed", problem: { code, message }, isRetryable: isRetryable(category) });
      });
    },
    drain(verdict) {
      givingUp.abort();
      const drained = starting.then(async () => drainRunner(runner, await deletedFirst(verdict)));
      drained.then(
        (outcome) => feed({ on: "runner_drained", outcome }),
        (error: unknown) => {
          // Not drained and not known to be idle: the safe side is to wait for the runner's end and ask again.
          log.error({ error }, "The runner could not be drained.");
          feed({ on: "runner_drained", outcome: { kind: "busy" } });
        },
      );
    },
    interrupt() {
      givingUp.abort();
      if (runner !== undefined) stopNow(runner);
    },
    kill() {
      givingUp.abort();
      runner?.kill().catch((error: unknown) => log.error({ error }, "The runner could not be killed."));
    },
    async release() {
      await runner?.release();
    },
  };
}

const installedAt = (dir: string): InstalledRunner => ({
  dir,
  listener: join(dir, "bin", "Runner.Listener"),
  configScript: join(dir, "config.sh"),
  configured: true,
});

/** Only of a runner that was ours and has ended; GitHub forgets the registration by itself, or by its name. */
async function removeRegistration(dir: string): Promise<void> {
  for (const name of [
    ".runner",
    ".runner_migrated",
    ".credentials",
    ".credentials_migrated",
    ".credentials_rsaparams",
  ])
    await rm(join(dir, name), { force: true });
}
