import { Beats } from "./beats.ts";
import { createDeliver } from "./deliver.ts";
import type { Desk } from "./desk.ts";
import { createDesk } from "./front-desk.ts";
import type { Parts } from "./parts.ts";
import { EventIntake } from "./receive.ts";
import { createSessions } from "./sessions.ts";
import { wakeSessions } from "./wake-sessions.ts";
import { watch } from "./watch.ts";

export interface OpenDesk extends AsyncDisposable {
  desk: Desk;
}

/** Puts the parts of `session/` together and starts the watch. Disposing finishes what is under way. */
export function openDesk(parts: Parts): OpenDesk {
  const intake = new EventIntake(parts);
  const beats = new Beats(parts);
  const deliver = createDeliver(parts);
  const sessions = createSessions(parts, deliver, (vmId) => beats.hear(vmId));
  const stopHearing = wakeSessions(parts);
  const watching = watch(parts, beats, sessions);
  return {
    desk: createDesk(parts, intake, beats, sessions),
    async [Symbol.asyncDispose]() {
      stopHearing();
      await watching;
      await intake.idle();
      await beats.flush();
    },
  };
}
