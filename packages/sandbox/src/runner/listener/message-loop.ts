/**
 * The Listener's main loop: listening ⇄ job → end.
 * It polls while a job runs too, because cancellations arrive that way. It ends after one job when it is ephemeral,
 * when GitHub says that its registration is gone, when it is to update itself, on signals, and on errors.
 * The exit codes are those of runner-contract §3.1.
 */
import { taskResults } from "../../github/types.ts";
import { recordPerf } from "../diag-log.ts";
import { type Scenario, scenarios } from "../scenarios.ts";
import { type Broker, BrokerError, type BrokerMessage } from "./broker.ts";
import { dispatchJob, type RunningJob } from "./dispatch.ts";
import { type Host, removeLocalFiles } from "./host.ts";
import type { Signals } from "./signals.ts";
import { updateSelf } from "./update.ts";

const innerAttempts = 5;
const maxPollErrors = 10;

export interface LoopOptions {
  readonly runOnce: boolean;
  readonly hosted: boolean;
  readonly ephemeral: boolean;
}

export class MessageLoop {
  readonly #host: Host;
  readonly #broker: Broker;
  readonly #signals: Signals;
  readonly #options: LoopOptions;
  readonly #done = new AbortController();
  #job: RunningJob | null = null;
  #exitCode: number | null = null;
  #hiccups = 0;

  constructor(host: Host, broker: Broker, signals: Signals, options: LoopOptions) {
    this.#host = host;
    this.#broker = broker;
    this.#signals = signals;
    this.#options = options;
  }

  async run(): Promise<number | "session-expired"> {
    const stop = AbortSignal.any([this.#signals.shutdown, this.#done.signal]);
    const startUp = this.#startUp();
    if (startUp?.kind === "deprecated") return await this.#refuseVersion();
    if (startUp?.kind === "update" && startUp.version !== this.#host.installation.version) {
      return await this.#update(startUp.version, startUp.finishes);
    }
    try {
      while (!stop.aborted) {
        const message = await this.#poll(stop);
        const code = message && (await this.#handle(message));
        if (code !== null) return code;
      }
    } catch (error) {
      return await this.#pollingFailed(error);
    }
    if (this.#exitCode !== null) return await this.#leave(this.#exitCode);
    // A signal. Local files and the registration stay, even those of an ephemeral runner.
    this.#job?.shutDown(this.#signals.reason);
    await this.#job?.finished;
    await this.#host.installation.wait(this.#scenario()?.stopSeconds ?? 0);
    return await this.#leave(this.#signals.exitCode);
  }

  #scenario(): Scenario | undefined {
    const { scenario } = this.#host.installation;
    return scenario === null ? undefined : scenarios[scenario];
  }

  #startUp() {
    return this.#scenario()?.startUp;
  }

  /** The outer counter of errors is reset by a message only, never by an empty poll (runner-contract §4.5). */
  async #poll(stop: AbortSignal): Promise<BrokerMessage | null> {
    const startUp = this.#startUp();
    if (startUp?.kind === "poll-errors" && (startUp.whileBusy !== true || this.#job !== null)) {
      await this.#host.installation.wait(20, stop);
      throw new Error("The service is not available.");
    }
    for (let errors = 0; !stop.aborted; ) {
      for (let attempt = 1; !stop.aborted; attempt += 1) {
        try {
          this.#failAsTold();
          const message = await this.#broker.poll(this.#job ? "Busy" : "Online", stop);
          if (errors > 0 && startUp?.kind === "poll-hiccup" && startUp.saysReconnected)
            this.#host.terminal.timedLine("Runner reconnected.");
          return message;
        } catch (error) {
          if (stop.aborted) return null;
          if (error instanceof BrokerError && [400, 401, 403, 404].includes(error.status)) throw error;
          if (attempt === innerAttempts) {
            errors += 1;
            if (errors >= maxPollErrors) throw error;
            if (errors === 1) {
              const message = error instanceof Error ? error.message : String(error);
              this.#host.terminal.timedError(`Runner connect error: ${message}. Retrying until reconnected.`);
            }
            break;
          }
          await this.#host.installation.wait(5, stop);
        }
      }
      await this.#host.installation.wait(errors <= 5 ? 15 : 30, stop);
    }
    return null;
  }

  /** One series of errors: all inner attempts of one outer one. */
  #failAsTold(): void {
    if (this.#startUp()?.kind !== "poll-hiccup" || this.#hiccups >= innerAttempts) return;
    this.#hiccups += 1;
    throw new Error("Name or service not known (broker:443)");
  }

  async #pollingFailed(error: unknown): Promise<number | "session-expired"> {
    const { terminal } = this.#host;
    const status = error instanceof BrokerError ? error.status : 0;
    if (status === 401 && !this.#job) return "session-expired";
    if (status === 404) {
      terminal.error("The runner no longer exists on the server. Cleaning up local configuration.");
    }
    this.#job?.cancel();
    await this.#job?.finished;
    if (status === 404) {
      await removeLocalFiles(this.#host);
      return 0;
    }
    if (error instanceof BrokerError && error.errorKind === "RunnerVersionTooOld") {
      return await this.#refuseVersion();
    }
    const message = error instanceof Error ? error.message : String(error);
    terminal.error(`An error occurred: ${message}`);
    return await this.#leave(2);
  }

  /** Null means: go on polling. */
  async #handle(message: BrokerMessage): Promise<number | null> {
    const { terminal, log } = this.#host;
    recordPerf("Runner", `MessageReceived_${message.messageType}`);
    switch (message.messageType) {
      case "RunnerJobRequest":
        // One more job for an ephemeral runner is ignored; any other runner takes it when the Worker has gone.
        if (this.#job !== null && this.#options.runOnce) return null;
        await this.#job?.finished;
        return await this.#startJob(message.body);
      case "JobCancellation":
        if (this.#job?.jobId === message.body["jobId"]) this.#job?.cancel();
        return null;
      case "RunnerRefresh":
        return await this.#update(String(message.body["target_version"]), true);
      default:
        log.info("Runner", `Received message ${message.messageType} with unsupported message type.`);
        terminal.timedError(`Unknown message ${message.messageType}.`);
        return null;
    }
  }

  async #startJob(request: Readonly<Record<string, unknown>>): Promise<number | null> {
    const { log } = this.#host;
    const requestId = String(request["runner_request_id"]);
    try {
      log.info("Runner", `Acknowledging runner request '${requestId}'.`);
      await this.#broker.acknowledge(requestId);
    } catch (error) {
      if (error instanceof BrokerError && error.status === 404 && this.#options.ephemeral) {
        await this.#closeSession();
        await removeLocalFiles(this.#host);
        return 0;
      }
      log.error("Runner", `Failed to acknowledge: ${String(error)}`);
    }
    if (this.#scenario()?.hangsAfterAck === true) {
      // A timer, because nothing else would keep this process alive.
      while (!this.#signals.shutdown.aborted)
        await this.#host.installation.wait(3_600, this.#signals.shutdown);
      return null;
    }
    try {
      const message = await this.#broker.acquire(requestId);
      const jobId = String(message["jobId"]);
      log.info("JobDispatcher", `Job request 0 for plan ${jobId} job ${jobId} received.`);
      const job = dispatchJob(this.#host, this.#broker, this.#signals, message);
      this.#job = job;
      void job.finished.then(
        (end) => this.#jobEnded(job, end.exitCode, 100 + taskResults.indexOf(end.result)),
        () => this.#jobEnded(job, 1, 1),
      );
    } catch (error) {
      log.error("Runner", `Skipping message Job. ${String(error)}`);
    }
    return null;
  }

  #jobEnded(job: RunningJob, exitCode: number | null, hostedCode: number): void {
    if (this.#job === job) this.#job = null;
    if (!this.#options.runOnce || this.#signals.shutdown.aborted) return;
    this.#exitCode = exitCode ?? (this.#options.hosted ? hostedCode : 0);
    this.#done.abort();
  }

  async #leave(code: number): Promise<number> {
    await this.#closeSession();
    const ranItsJob = this.#exitCode !== null;
    if (code === 2) {
      if (ranItsJob) this.#host.terminal.error("An error occurred: The session could not be deleted.");
    } else if (ranItsJob && this.#options.ephemeral) await removeLocalFiles(this.#host);
    return code;
  }

  async #closeSession(): Promise<void> {
    await this.#broker.closeSession().catch((error) => {
      this.#host.log.error("Runner", `The session could not be deleted: ${String(error)}`);
    });
  }

  async #refuseVersion(): Promise<number> {
    const { terminal, installation } = this.#host;
    await this.#closeSession();
    terminal.error(
      `An error occurred: Runner version v${installation.version} is deprecated and cannot receive messages.`,
    );
    return isTrue(process.env["ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"]) ? 7 : 1;
  }

  async #update(version: string, finishes: boolean): Promise<number> {
    await updateSelf(this.#host, version, finishes, this.#job?.finished ?? Promise.resolve());
    if (this.#exitCode !== null) return await this.#leave(this.#exitCode);
    await this.#closeSession();
    return this.#options.ephemeral ? 4 : 3;
  }
}

/** How .NET reads a switch from the environment (runner-contract, appendix A). */
export function isTrue(value: string | undefined): boolean {
  return /^(1|\$?true)$/i.test(value ?? "");
}
