import type { Log } from "@mig/kit";
import type { ErrorNotice } from "@mig/protocol";

/** What an agent says went wrong, cut to what a line of the log may hold. */
export function logAgentError(log: Log, vmId: string | undefined, { code, message }: ErrorNotice): void {
  log.info(
    { vm_id: vmId, code: code.slice(0, 128), text: message.slice(0, 1_024) },
    "an agent reports an error",
  );
}
