import { maybe } from "@mig/protocol";
import type { HookFiles } from "./job-hooks.ts";
import { launchListener } from "./launch.ts";
import type { Lookout } from "./lookout.ts";
import { findProgram, isProgram, scriptPattern } from "./proc.ts";
import {
  findListener,
  interruptListener,
  killRunner,
  type ListenerProcess,
  type ProcessEnd,
  withListener,
} from "./process.ts";
import { findScope } from "./scope.ts";
import { type SuperviseSettings, timingDefaults } from "./supervised-runner.ts";

/** The process of a runner, started by this agent or found again; what is known of it goes into the record. */
export class RunnerProcess {
  readonly #settings: SuperviseSettings;
  readonly #lookout: Lookout;
  readonly #hooks: HookFiles;
  readonly #released: AbortSignal;
  readonly #watchMs: number;
  #process: ListenerProcess | undefined;

  constructor(settings: SuperviseSettings, lookout: Lookout, hooks: HookFiles, released: AbortSignal) {
    this.#settings = settings;
    this.#lookout = lookout;
    this.#hooks = hooks;
    this.#released = released;
    this.#watchMs = settings.timing?.watchMs ?? timingDefaults.watchMs;
  }

  async launch(): Promise<void> {
    const { installed, environment, jitConfig, scope = "auto", launcher = "listener" } = this.#settings;
    const { systemdPath = "/run/systemd/system", log } = this.#settings;
    const perf = await this.#lookout.prepare();
    const launched = await launchListener({
      installed,
      environment,
      launcher,
      scope,
      systemdPath,
      log,
      outputPath: this.#lookout.record.output.path,
      variables: {
        // Exactly "1": what the Listener and the scripts around it both understand (runner-contract §3.3).
        ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE: "1",
        RUNNER_PERFLOG: perf.dir,
        ACTIONS_RUNNER_HOOK_JOB_STARTED: this.#hooks.started,
        ACTIONS_RUNNER_HOOK_JOB_COMPLETED: this.#hooks.completed,
        ...(jitConfig === undefined ? {} : { ACTIONS_RUNNER_INPUT_JITCONFIG: jitConfig }),
      },
    });
    this.#process = await this.#behindScript(launched.process, launcher);
    const { pid, startTicks } = launched.process;
    this.#lookout.setRecord({ ...this.#lookout.record, pid, ...maybe("startTicks", startTicks) });
    this.#lookout.note({
      relaunch: undefined,
      scope: launched.scope,
      launcher: launcher === "run.sh" ? launcher : undefined,
    });
  }

  /**
   * By pid, start time and boot: never another process that has the number now. Answers what an earlier process saw
   * of its end.
   */
  async adopt(): Promise<ProcessEnd> {
    const { record } = this.#lookout;
    // After another boot the number means nothing; -1 is nobody's.
    const isSameBoot = record.bootId === this.#settings.bootId;
    if (await this.#find(record.pid, isSameBoot ? record.startTicks : -1)) return {};
    // The agent may have died between starting it (again) and writing its number down.
    const other = await findProgram(this.#settings.installed.listener);
    if (other !== undefined && (await this.#find(other.pid, other.startTicks))) {
      this.#lookout.setRecord({ ...this.#lookout.record, ...other, bootId: this.#settings.bootId });
      return {};
    }
    const { relaunch } = this.#lookout.notes;
    return relaunch === undefined ? {} : { code: relaunch.exitCode };
  }

  async #find(pid: number, startTicks: number | undefined): Promise<boolean> {
    const found = await findListener(pid, startTicks, this.#watchMs, this.#released);
    const isScript = found.isAlive()
      ? await isProgram(pid, scriptPattern)
      : this.#lookout.notes.launcher === "run.sh";
    this.#process = await this.#behindScript(found, isScript ? "run.sh" : "listener");
    if (!this.#process.isAlive()) return false;
    const scope = (await findScope(pid)) ?? this.#lookout.notes.scope;
    this.#lookout.note({ relaunch: undefined, scope, launcher: isScript ? "run.sh" : undefined });
    return true;
  }

  isAlive(): boolean {
    return this.#process?.isAlive() === true;
  }

  ended(): Promise<ProcessEnd> | undefined {
    return this.#process?.ended;
  }

  /** Between two Listeners of run.sh there is nobody to interrupt, and no job to lose: then the script is ended. */
  async interrupt(checkBusy: () => Promise<boolean>): Promise<void> {
    if (this.#process === undefined) return;
    const wasThere = await interruptListener(this.#process, this.#lookout.notes.launcher !== undefined);
    if (!wasThere && this.isAlive() && !(await checkBusy())) await this.kill();
  }

  async kill(): Promise<void> {
    if (this.#process !== undefined) await killRunner(this.#process, this.#lookout.notes.scope);
  }

  async #behindScript(process: ListenerProcess, launcher: "listener" | "run.sh"): Promise<ListenerProcess> {
    return launcher === "run.sh" ? withListener(process, this.#watchMs, this.#released) : process;
  }
}
