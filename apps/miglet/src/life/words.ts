import type { AgentState, ErrorCode } from "@mig/lifecycle";
import type {
  Command,
  DiagnosticsOrder,
  EventType,
  JobData,
  JsonObject,
  PreemptionData,
} from "@mig/protocol";
import type { GrantNews } from "../boot/read-grant.ts";
import type { Refusal } from "../link/link.ts";
import type { MemoryChange, RunnerRecord } from "../memory/state-file.ts";
import type { JobObservation } from "../runner/evidence.ts";
import type { RunnerExit } from "../runner/exit.ts";
import type { RunnerNews } from "../runner/news.ts";
import type { DrainOutcome, Verdict } from "../shutdown/drain.ts";
import type { LogLevel, RunnerMaterial, RunnerPin } from "./read-order.ts";

/** What the agent knows, hears and does: the words of `life.ts`. */
export interface Rules {
  readonly vmId: string;
  /** What a grant leaves open. */
  readonly labels: readonly string[];
  readonly runnerGroup?: string;
  /** After an ephemeral runner has had its job: register another one instead of ending. */
  readonly reuse: boolean;
  /** Registrations that may fail before the agent gives up (seed 001: three). */
  readonly registrationsMax: number;
  readonly retryFirstMs: number;
  readonly retryCapMs: number;
  /** From the start of the Listener until it must listen. */
  readonly listenWithinMs: number;
  /** How long a running job may take to end after the first signal. */
  readonly forceAfterMs: number;
  /** From asking a runner to stop at once until it is killed. */
  readonly graceMs: number;
  readonly heartbeatIntervalMs: number;
  /** To which a level that was set for a while goes back. */
  readonly logLevel: LogLevel;
  /** How long an agent without a runner goes on without a controller; 0 = for ever. */
  readonly aloneMs: number;
  /** How long a runner may be without a job; 0 = for ever. */
  readonly idleMs: number;
  /** How long until the instance's metadata is asked for a grant again; undefined = never asked. */
  readonly fromMetadataMs?: number;
  /** What is left, for this process, of the time that the VM may take jobs; undefined = no end. */
  readonly lifetimeLeftMs?: number;
}

/** The runner as others know it; nothing of it is secret. */
export interface RunnerIdentity {
  readonly name: string;
  readonly id?: number;
  readonly labels: readonly string[];
  readonly runnerUrl?: string;
  readonly runnerGroup?: string;
}

export interface Always {
  readonly rules: Rules;
  readonly failedRegistrations: number;
  /** A channel to the controller is open. */
  readonly linked: boolean;
  /** The grant of metadata that was used last: each is good for one registration. */
  readonly usedGrant?: string;
  /** What was told to be wrong with the one that is there; it is told once. */
  readonly grantFault?: string;
  /** The command by which diagnostics are being collected and brought. */
  readonly collecting?: string;
}

/** A command that was received and whose result is due when the runner is gone. */
export interface Owed {
  readonly id: string;
  readonly type: "drain" | "shutdown";
}

/** What is told and returned at the very end. */
export interface LastEnding {
  readonly reason: string;
  readonly exitCode: number;
}

/** How it will end, once the way out has begun. */
export interface Ending extends LastEnding {
  readonly owed: readonly Owed[];
}

export interface Initializing extends Always {
  readonly at: "initializing";
  /** What was found broken in the memory: told after `vm_started`. */
  readonly problems: readonly JsonObject[];
}
export interface Waiting extends Always {
  readonly at: "waiting_for_controller";
}
export interface Ready extends Always {
  readonly at: "ready";
}
export interface Registering extends Always {
  readonly at: "registering_runner";
  /** Undefined: its result has been given, or nobody waits for one. */
  readonly commandId?: string;
  readonly runner: RunnerIdentity;
  /** `pausing`: the last attempt failed and was answered; after a while the agent is ready again. */
  readonly phase: "working" | "giving_up" | "pausing";
}
export interface Idle extends Always {
  readonly at: "idle";
  readonly runner: RunnerIdentity;
}
export interface JobRunning extends Always {
  readonly at: "job_running";
  readonly runner: RunnerIdentity;
  /** Present from `job_started` to `job_completed`. */
  readonly job?: JobData;
}
export interface Draining extends Always, Ending {
  readonly at: "draining";
  /** `asked`: the hand that drains is at work. `busy`: it found a job, which is waited for. */
  readonly phase: "asked" | "busy";
  readonly isGone: boolean;
  readonly runner?: RunnerIdentity;
  readonly job?: JobData;
}
export interface ShuttingDown extends Always, Ending {
  readonly at: "shutting_down";
  /** `stopping`: the runner is being stopped whatever it does. `over`: nothing is left to do. */
  readonly phase: "stopping" | "last_words" | "over";
  readonly runner?: RunnerIdentity;
  readonly job?: JobData;
}
export interface Failed extends Always {
  readonly at: "error";
  readonly reason: string;
  readonly exitCode: number;
}

export type State =
  | Initializing
  | Waiting
  | Ready
  | Registering
  | Idle
  | JobRunning
  | Draining
  | ShuttingDown
  | Failed;

/** The union has exactly the states of the lifecycle table. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
export const statesAgree: Same<State["at"], AgentState> = true;

export interface Problem {
  readonly code: ErrorCode;
  readonly message: string;
}

/** What is known when the process begins; `begin` makes the first state of it. */
export interface Found {
  /** The agent ran before in this boot. */
  readonly resumed: boolean;
  readonly lastState: AgentState;
  readonly draining: boolean;
  /** Received by the process before and never finished. */
  readonly interrupted: readonly { readonly id: string; readonly type: string }[];
  readonly problems: readonly JsonObject[];
  /** How the life was about to end. */
  readonly ending?: LastEnding;
  /** The runner of the process before. */
  readonly runner?: FoundRunner;
  readonly job?: JobData;
  readonly usedGrant?: string;
  /** Of a drain that was under way. */
  readonly deadline?: { readonly afterMs: number; readonly action: "force" | "report" };
  /** In a row, by the processes before. */
  readonly failedRegistrations?: number;
}

/** One that has ended in the meantime is told so by the inputs that follow, as of any runner. */
export interface FoundRunner {
  readonly identity: RunnerIdentity;
  readonly listened: boolean;
  readonly isBusy: boolean;
  /** The register_runner command that led to it. */
  readonly commandId?: string;
}

export type Timer =
  | "alone"
  | "retry"
  | "metadata"
  | "listen"
  | "idle"
  | "lifetime"
  | "force"
  | "kill"
  | "gone"
  | "drain_again"
  | "overdue"
  | "log_level";

export type Input =
  /** Somebody asks whether inputs are taken. */
  | { readonly on: "probe" }
  | { readonly on: "checked"; readonly problem?: Problem }
  | { readonly on: "announced" }
  | { readonly on: "link_up" }
  | { readonly on: "link_down" }
  | { readonly on: "refused"; readonly refusal: Refusal }
  | { readonly on: "command"; readonly command: Command }
  | { readonly on: "grant_read"; readonly grant: GrantNews }
  | { readonly on: "runner_started"; readonly runner: RunnerIdentity }
  | { readonly on: "runner_failed"; readonly problem: Problem; readonly isRetryable: boolean }
  /** Where the supervision has read to. In line with the observations, so that none is lost by a crash between. */
  | { readonly on: "recorded"; readonly record: RunnerRecord }
  | { readonly on: "observed"; readonly observation: JobObservation }
  | { readonly on: "news"; readonly news: RunnerNews }
  | { readonly on: "runner_exited"; readonly exit: RunnerExit }
  | { readonly on: "runner_drained"; readonly outcome: DrainOutcome }
  /** The machine runs out of something; said once for each time. */
  | {
      readonly on: "low";
      readonly resource: "disk" | "memory";
      readonly freeMib: number;
      readonly neededMib: number;
    }
  /** The cloud will take the machine away. */
  | { readonly on: "preempted"; readonly notice: PreemptionData }
  /** The controller has the bundle, or will never have it. */
  | { readonly on: "collected"; readonly commandId: string; readonly outcome: Outcome }
  | { readonly on: "flushed" }
  | { readonly on: "last_words_said" }
  | { readonly on: "signal"; readonly count: number; readonly exitCode: number }
  | { readonly on: "timer"; readonly timer: Timer };

export type Effect =
  | { readonly do: "check_prerequisites" }
  /** Begins to beat, and waits until all events so far are acknowledged: `announced`. */
  | { readonly do: "announce" }
  /** Begins to beat and to connect; a second time it does nothing. */
  | { readonly do: "open_link" }
  | { readonly do: "send_events" }
  /** `grant_read` tells what was there. */
  | { readonly do: "read_grant" }
  | { readonly do: "emit"; readonly type: EventType; readonly data: JsonObject }
  | { readonly do: "receive"; readonly command: Command }
  | { readonly do: "finish"; readonly commandId: string; readonly outcome: Outcome }
  | { readonly do: "refuse"; readonly command: Command; readonly message: string }
  | {
      readonly do: "start_runner";
      /** Undefined: by a grant of metadata. */
      readonly commandId?: string;
      readonly runner: RunnerIdentity;
      readonly material: RunnerMaterial;
      readonly pin: RunnerPin;
    }
  | { readonly do: "drain_runner"; readonly verdict: Verdict }
  | { readonly do: "interrupt_runner" }
  | { readonly do: "kill_runner" }
  | { readonly do: "set_timer"; readonly timer: Timer; readonly afterMs: number }
  | { readonly do: "cancel_timer"; readonly timer: Timer }
  /** The timer `force` or `overdue`, which also a process that comes after this one keeps. */
  | { readonly do: "set_deadline"; readonly afterMs: number; readonly action: "force" | "report" }
  /** Begins; `collected` tells the outcome. */
  | { readonly do: "collect"; readonly commandId: string; readonly wanted: DiagnosticsOrder }
  | { readonly do: "stop_collecting" }
  | { readonly do: "beat" }
  | { readonly do: "set_log_level"; readonly level: LogLevel }
  | { readonly do: "set_heartbeat_interval"; readonly intervalMs: number }
  | { readonly do: "remember"; readonly change: MemoryChange }
  | { readonly do: "flush" }
  | { readonly do: "last_words"; readonly reason: string; readonly exitCode: number }
  /** `unlessRunner`: this agent never had a runner; one that lives here all the same has a job to finish. */
  | { readonly do: "power_off"; readonly unlessRunner: boolean }
  | { readonly do: "exit"; readonly code: number };

export interface Outcome {
  readonly success: boolean;
  readonly message?: string;
  readonly result?: JsonObject;
}

export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}
