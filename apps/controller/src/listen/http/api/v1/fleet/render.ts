import type { FleetView, Problem } from "../../../../../fleet/rows.ts";
import type { Target } from "../../../../../fleet/targets.ts";
import { timeOrNull } from "../../../render.ts";

/** A fleet order with the wire's names. */
export function renderFleet(view: FleetView & { problems?: readonly Problem[] }): object {
  return {
    id: view.id,
    type: view.type,
    parameters: view.parameters,
    selector: view.selector,
    max_parallel: view.maxParallel,
    pause_after_failures: view.pauseAfterFailures,
    state: view.state,
    message: view.message,
    progress: view.progress,
    created_by: view.createdBy,
    created_at: timeOrNull(view.createdAtMs),
    finished_at: timeOrNull(view.finishedAtMs),
    ...(view.problems === undefined
      ? {}
      : {
          problems: view.problems.map(({ vmId, state, commandId, message }) => ({
            vm_id: vmId,
            state,
            command_id: commandId,
            message,
          })),
        }),
  };
}

export function renderTarget({ vmId, orgId, state, commandId, message }: Target): {
  vm_id: string;
  org_id: string;
  state: string;
  command_id: string | null;
  message: string | null;
} {
  return { vm_id: vmId, org_id: orgId, state, command_id: commandId, message };
}
