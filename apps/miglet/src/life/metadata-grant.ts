import type { GrantNews } from "../boot/read-grant.ts";
import { enterReady, tellError } from "./endings.ts";
import { beginRegistration } from "./obey.ts";
import { readRegistration } from "./read-order.ts";
import { errorData, stay } from "./steps.ts";
import type { Effect, Ready, State, Step, Waiting } from "./words.ts";

/**
 * A grant that lies in the instance's metadata does what register_runner does, without a command (seed 001, "Direct
 * Token from Metadata"). It is for VMs that boot while the controller is away: one that still waits for the first
 * answer of the controller becomes ready by it. Whichever is first wins, the command or the grant; the other finds a
 * runner being registered and is refused, or left where it is.
 *
 * Each grant is used once, also across restarts: what made one registration fail would make the next one fail, so
 * after a failure the agent waits for another grant, or for the controller.
 */
export function onGrantRead(state: State, grant: GrantNews): Step {
  const { fromMetadataMs } = state.rules;
  if (!takesGrants(state) || fromMetadataMs === undefined) return stay(state);
  const again: Effect = { do: "set_timer", timer: "metadata", afterMs: fromMetadataMs };
  switch (grant.is) {
    case "absent":
      return stay(state, again);
    case "bad":
      return tellFault(state, grant.message, again);
    case "found": {
      if (grant.id === state.usedGrant) return stay(state, again);
      const order = readRegistration(grant.id, grant.parameters, state.rules);
      if (order.type === "unreadable")
        return tellFault(state, `The grant in metadata cannot be used: ${order.why}`, again);
      // It is read once more by then: no secret waits in a state.
      if (state.at === "waiting_for_controller") return enterReady(state);
      const { grantFault: _mended, ...rest } = state;
      const begun = beginRegistration({ ...rest, usedGrant: grant.id }, order);
      return { ...begun, effects: [{ do: "remember", change: { usedGrant: grant.id } }, ...begun.effects] };
    }
  }
}

export function takesGrants(state: State): state is Waiting | Ready {
  return state.at === "waiting_for_controller" || state.at === "ready";
}

/** Looked at again and again, told once: whoever put it there has to put another one. */
function tellFault(state: Waiting | Ready, message: string, again: Effect): Step {
  if (message === state.grantFault) return stay(state, again);
  const told = tellError(errorData({ code: "runner_configure_failed", message }, false));
  return stay({ ...state, grantFault: message }, told, again);
}
