import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { Settings } from "./boot/settings-table.ts";
import type { RunnerMaterial } from "./life/read-order.ts";
import type { FoundRunner, Input, RunnerIdentity } from "./life/words.ts";
import type { Memory } from "./memory/open-memory.ts";
import type { RunnerRecord } from "./memory/state-file.ts";
import { configureRunner } from "./runner/configure.ts";
import type { RunnerEnvironment } from "./runner/environment.ts";
import { inspectRunner, readRunnerFile } from "./runner/installed-runner.ts";
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
  start(commandId: string, runner: RunnerIdentity, material: RunnerMaterial): void;
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
  feed(input: Input): void;
  log: Log;
}

export function createRunnerKeeper({
  settings,
  memory,
  environment,
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
    chainHooks: {
      ...maybe("started", settings["runner.user_hooks.started"]),
      ...maybe("completed", settings["runner.user_hooks.completed"]),
    },
    log: log.child({ component: "runner" }),
  });
  /** A process that died between starting its runner and writing that down: a second one must not be started. */
  async function findUnnoted(): Promise<RunnerRecord | undefined> {
    const listenerPath = join(dir, "bin", "Runner.Listener");
    const found = await findProgram(listenerPath);
    if (found === undefined) return undefined;
    const { name = "", id } = (await readRunnerFile(dir)) ?? {};
    const installed = { dir, listener: listenerPath, configScript: join(dir, "config.sh"), configured: true };
    const command = memory.journal.unfinished().findLast(({ type }) => type === "register_runner");
    const identity = { name, labels: settings["github.labels"], ...maybe("id", id) };
    return {
      ...newRecord({ ...supervision(installed, identity), ...maybe("commandId", command?.id) }),
      ...found,
    };
  }
  const stopNow = (one: SupervisedRunner): void => {
    one.expectEnd("stopped");
    one.interrupt();
  };

  async function register(
    commandId: string,
    identity: RunnerIdentity,
    material: RunnerMaterial,
  ): Promise<void> {
    const { signal } = givingUp;
    if (isLeftoverOurs) await removeRegistration(dir);
    const installed = await inspectRunner(dir, false);
    isLeftoverOurs = true;
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
    runner = await startRunner({ ...supervision(installed, known), ...jit, commandId }, listener);
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
      const installed = {
        dir: record.dir,
        listener: join(record.dir, "bin", "Runner.Listener"),
        configScript: join(record.dir, "config.sh"),
        configured: true,
      };
      runner = await adoptRunner(record, job, supervision(installed, identity), listener);
      const isBusy = await runner.checkBusy();
      log.info(
        { runner_name: name, pid: record.pid, alive: runner.isAlive(), busy: isBusy },
        "A runner was found again.",
      );
      return { identity, listened, isBusy, ...maybe("commandId", commandId) };
    },
    start(commandId, identity, material) {
      givingUp = new AbortController();
      starting = register(commandId, identity, material).catch((error: unknown) => {
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
      const drained = starting.then(() => drainRunner(runner, verdict));
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
