/** How a session with the broker comes to be, with every message and retry of runner-contract §4.3 and §4.5. */
import { scenarios } from "../scenarios.ts";
import { type Broker, BrokerError } from "./broker.ts";
import type { Host } from "./host.ts";

const retrySeconds = 30;
const conflictLimitSeconds = 240;
const skewLimitSeconds = 1_800;
const skewText =
  "The local machine's clock may be out of sync with the server time by more than five minutes. Please sync your clock with your domain or internet time and try again.";
const deletedText =
  "Failed to create a session. The runner registration has been deleted from the server, please re-configure. Runner registrations are automatically deleted for runners that have not connected to the service recently.";

/** Opens a session and answers "open", or the exit code with which the Listener must end. */
export async function openSession(
  host: Host,
  broker: Broker,
  agentName: string,
  shutdown: AbortSignal,
): Promise<"open" | number> {
  const { terminal, installation } = host;
  let conflicts = 0;
  let skews = 0;
  let failing = false;
  for (let attempt = 1; !shutdown.aborted; attempt += 1) {
    terminal.line();
    await terminal.success("Connected to GitHub");
    terminal.line();
    try {
      failAsTold(host, attempt);
      await broker.openSession(agentName, shutdown);
      if (failing) terminal.timedLine("Runner reconnected.");
      return "open";
    } catch (error) {
      if (shutdown.aborted) break;
      const message = error instanceof Error ? error.message : String(error);
      const status = error instanceof BrokerError ? error.status : 0;
      if (status === 404) {
        terminal.error(deletedText);
        return 1;
      }
      if (status === 401 || status === 403) {
        terminal.error(`Failed to create session. ${message}`);
        return 1;
      }
      if (error instanceof ClockSkewError) {
        terminal.error(skewText);
        skews += 1;
      } else if (status === 409) {
        terminal.error("A session for this runner already exists.");
        conflicts += 1;
      }
      if (conflicts * retrySeconds >= conflictLimitSeconds) {
        terminal.error(
          `Stop retry on SessionConflictException after retried for ${conflictLimitSeconds} seconds.`,
        );
        terminal.error(`Failed to create session. ${message}`);
        return 5;
      }
      if (skews * retrySeconds >= skewLimitSeconds) {
        terminal.error(`Stopped retrying OAuth token request exception after ${skewLimitSeconds} seconds.`);
        terminal.error(`Failed to create session. ${message}`);
        return 1;
      }
      if (!failing) terminal.timedError(`Runner connect error: ${message}. Retrying until reconnected.`);
      failing = true;
      await installation.wait(retrySeconds, shutdown);
    }
  }
  return 0;
}

class ClockSkewError extends Error {}

/** Plays the server's part for scenarios about start-up, which must work without any server. */
function failAsTold({ installation }: Host, attempt: number): void {
  const startUp = installation.scenario === null ? undefined : scenarios[installation.scenario].startUp;
  const refuse = (status: number, message: string) =>
    new BrokerError({ status, text: message, requestId: "", body: { message } });
  switch (startUp?.kind) {
    case "conflict":
      throw refuse(409, "The actions runner stand-in already has an active session.");
    case "registration-deleted":
      throw refuse(404, "The runner registration has been deleted from the server.");
    case "clock-skew":
      if (attempt <= startUp.times) throw new ClockSkewError("The token request was refused.");
      break;
    case "connect-error":
      if (attempt <= startUp.times) throw new Error("Name or service not known (broker:443)");
      break;
    default:
  }
}
