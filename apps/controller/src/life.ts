import type { CommandAnswer, CommandType, EventType, VmEvent } from "@mig/protocol";
import { acceptVm, noteDropped, noteError, notePreemption, noteSpool } from "./boot/accept-vm.ts";
import type { FlowContext } from "./context.ts";
import { completeJob, noteJob, startJob } from "./jobs/follow-job.ts";
import { confirmRunner, crashRunner, noteRegistration } from "./runner/confirm-runner.ts";
import { buryVm, closeVm, noteDrain } from "./shutdown/close-vm.ts";
import type { CommandRow } from "./store/rows.ts";

/**
 * The life of a VM as the controller sees it. Start reading here.
 *
 * A message comes in through `listen/`, which knows the wire, to `session/`, which knows who speaks. There an event
 * is judged, recorded and handed to its flow below, all in one unit of work; the answer goes out after the commit.
 * Each line is a moment of a healthy life, in order, and then what may go wrong.
 */
export type Flow = (context: FlowContext, event: VmEvent) => void;

export const life = {
  vm_started: acceptVm, // the agent is up and waits for this to be acknowledged; then it says "ready":
  //                       runner/want-runner.ts queues register_runner, session/deliver.ts brings it
  runner_registered: confirmRunner,
  job_started: startJob,
  job_heartbeat: noteJob,
  job_completed: completeJob,
  vm_shutting_down: closeVm,
  vm_terminated: buryVm,

  runner_crashed: crashRunner,
  error: noteError,
  events_dropped: noteDropped,
  spool_degraded: noteSpool,
  preemption_notice: notePreemption,
} satisfies { [T in EventType]: Flow };

/**
 * What the agent's answer to a command changes about the VM, beyond the command itself, which has already moved.
 * Silence, the last thing that can happen to a VM, is in shutdown/close-vm.ts (`writeOff`), called by the watch.
 */
export type AnswerFlow = (context: FlowContext, command: CommandRow, answer: CommandAnswer) => void;

const changesNothing: AnswerFlow = () => {};

export const answers = {
  register_runner: noteRegistration,
  drain: noteDrain,
  shutdown: changesNothing, // the VM says vm_shutting_down by itself
  update_config: changesNothing,
  set_log_level: changesNothing,
  collect_diagnostics: changesNothing, // its bundle comes beside the answer, and first: diagnostics/
} satisfies { [T in CommandType]: AnswerFlow };
