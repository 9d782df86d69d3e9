/**
 * The agent's own states (seed 001) and where each may go. The controller stores what an agent reports and never
 * refuses a report; the agent and the simulation hold themselves to this table.
 *
 * initializing          reads settings, checks prerequisites, opens its memory
 * waiting_for_controller `vm_started` is in the outbox, no acknowledgement yet
 * ready                 acknowledged; the channel is open or opening; waits for register_runner
 * registering_runner    the runner is being configured and started
 * idle                  the Listener listens, no job
 * job_running           a job runs
 * draining              no new job is accepted; a running one finishes
 * shutting_down         last words, then the end
 * error                 cannot go on; says so and ends
 */
export const agentStates = [
  "initializing",
  "waiting_for_controller",
  "ready",
  "registering_runner",
  "idle",
  "job_running",
  "draining",
  "shutting_down",
  "error",
] as const;
export type AgentState = (typeof agentStates)[number];

export const agentMoves = {
  initializing: ["waiting_for_controller", "shutting_down", "error"],
  waiting_for_controller: ["ready", "draining", "shutting_down", "error"],
  ready: ["registering_runner", "draining", "shutting_down", "error"],
  registering_runner: ["idle", "job_running", "ready", "draining", "shutting_down", "error"],
  idle: ["job_running", "ready", "draining", "shutting_down", "error"],
  job_running: ["idle", "ready", "draining", "shutting_down", "error"],
  draining: ["shutting_down", "error"],
  shutting_down: [],
  error: ["shutting_down"],
} as const satisfies Record<AgentState, readonly AgentState[]>;

export function isAgentState(text: string): text is AgentState {
  return (agentStates as readonly string[]).includes(text);
}

export function mayMove(from: AgentState, to: AgentState): boolean {
  return from === to || (agentMoves[from] as readonly AgentState[]).includes(to);
}
