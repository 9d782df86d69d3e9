import { type EventType, eventTypes } from "@mig/protocol";

/**
 * The state of a VM as the controller sees it (seed 000 R1.2) and what moves it.
 *
 * A VM enters `initializing` when it is first heard of. Its own events move it; reports in heartbeats and connects
 * move it too, because existing agents send few events. `draining` begins when the agent has *received* the drain
 * and, like `shutting_down`, never goes back: a report that is older than the drain must not undo it. `lost` and
 * `terminated` are terminal for the incarnation; what still arrives is recorded and moves nothing. A new
 * incarnation of the same VM begins again at `initializing` (that is a new life, not a move).
 */
export const vmStates = [
  "initializing",
  "idle",
  "running",
  "draining",
  "shutting_down",
  "error",
  "terminated",
  "lost",
] as const;
export type VmState = (typeof vmStates)[number];

export const vmReports = [
  "reports_starting",
  "reports_idle",
  "reports_running",
  "reports_draining",
  "reports_shutting_down",
  "reports_error",
] as const;
export type VmReport = (typeof vmReports)[number];

/** Silence beyond the bound; `shutting_down` ends in `terminated` by it, everything else is `lost`. */
export type VmInput = EventType | VmReport | "drain_received" | "silence";

export const vmInputs: readonly VmInput[] = [...eventTypes, ...vmReports, "drain_received", "silence"];

const stay = <S extends VmState>(state: S): Record<VmInput, S> =>
  Object.fromEntries(vmInputs.map((input) => [input, state])) as Record<VmInput, S>;

/** What a VM says without becoming another one by it. */
const notes = <S extends VmState>(state: S) =>
  ({ events_dropped: state, spool_degraded: state, preemption_notice: state }) as const;

/** What most states do with most inputs; each row below says where it differs. */
const alive = {
  vm_started: "initializing",
  runner_registered: "idle",
  job_started: "running",
  job_heartbeat: "running",
  job_completed: "idle",
  runner_crashed: "error",
  vm_shutting_down: "shutting_down",
  error: "error",
  vm_terminated: "terminated",
  reports_starting: "initializing",
  reports_idle: "idle",
  reports_running: "running",
  reports_draining: "draining",
  reports_shutting_down: "shutting_down",
  reports_error: "error",
  drain_received: "draining",
  silence: "lost",
} as const;

export const vmTable = {
  initializing: { ...alive, ...notes("initializing") },
  idle: { ...alive, ...notes("idle") },
  running: { ...alive, ...notes("running") },
  draining: {
    ...stay("draining"),
    vm_shutting_down: "shutting_down",
    vm_terminated: "terminated",
    reports_shutting_down: "shutting_down",
    error: "error",
    reports_error: "error",
    silence: "lost",
  },
  shutting_down: { ...stay("shutting_down"), vm_terminated: "terminated", silence: "terminated" },
  error: { ...alive, job_heartbeat: "error", job_completed: "error", ...notes("error") },
  terminated: stay("terminated"),
  lost: stay("lost"),
} as const satisfies Record<VmState, Record<VmInput, VmState>>;

export function nextVmState(state: VmState, input: VmInput): VmState {
  return vmTable[state][input];
}

export function isTerminal(state: VmState): boolean {
  return state === "terminated" || state === "lost";
}

/** What an agent's reported state means here. Unknown words mean nothing; `connecting` is an existing agent's. */
export function reportOf(migletState: string | undefined, runnerRuns: boolean): VmReport | undefined {
  switch (migletState) {
    case "initializing":
    case "waiting_for_controller":
    case "connecting":
    case "ready":
    case "registering_runner":
      return "reports_starting";
    case "idle": // existing agents stay "idle" during a job; only runner_state says that it runs
      return runnerRuns ? "reports_running" : "reports_idle";
    case "job_running":
      return "reports_running";
    case "draining":
      return "reports_draining";
    case "shutting_down":
      return "reports_shutting_down";
    case "error":
      return "reports_error";
    default:
      return runnerRuns ? "reports_running" : undefined;
  }
}
