import { createBackoff, type Log, pause, systemClock } from "@mig/kit";
import { type ErrorCode, errorCodes } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { type Check, checkPrerequisites, type Machine } from "./prerequisites.ts";
import type { Settings } from "./settings-table.ts";

export interface PassOptions {
  readonly machine: Machine;
  readonly log: Log;
  readonly signal?: AbortSignal;
  /** How long what may come by itself is waited for. */
  readonly patienceMs?: number;
  readonly withinMs?: number;
}

/** Seed 001, "Retry Strategy": a transient error is tried five times more. */
const transientRetriesMax = 5;

/**
 * Waits until the machine has what is required, or answers what it lacks. What may come by itself (the network, a
 * daemon, a mount) is looked for again with the backoff of the settings: five times more where it is transient, for
 * two minutes where it is infrastructure. Misconfiguration fails at once (seed 001, "Error Classification"), and
 * then everything that is missing is told with it. What is not required is only logged, and not waited for.
 */
export async function passPrerequisites(
  settings: Settings,
  { machine, log, signal, patienceMs = 120_000, withinMs }: PassOptions,
): Promise<{ code: ErrorCode; message: string } | undefined> {
  const backoff = createBackoff({
    firstMs: settings["controller.retry.initial_backoff"],
    capMs: settings["controller.retry.max_backoff"],
  });
  const within = { machine, ...maybe("withinMs", withinMs) };
  const look = async (names?: ReadonlySet<string>): Promise<Check[]> => {
    const checks = await checkPrerequisites(settings, {
      ...within,
      scope: "required",
      ...maybe("names", names),
    });
    return checks.filter(({ problem }) => problem !== undefined);
  };
  checkPrerequisites(settings, { ...within, scope: "advice" }).then(
    (advice) => warn(advice, log),
    (error: unknown) => log.warn({ error }, "The machine could not be looked at."),
  );
  const beganAtMs = systemClock.monotonicMs();
  let missing = await look();
  for (let retries = 0; missing.length > 0; retries += 1) {
    const isOver =
      missing.some(({ canHeal }) => !canHeal) ||
      systemClock.monotonicMs() - beganAtMs >= patienceMs ||
      (retries >= transientRetriesMax && missing.every(({ code }) => errorCodes[code] === "transient")) ||
      signal?.aborted === true;
    if (isOver) return toProblem(missing, log);
    log.warn({ checks: tell(missing) }, "The machine is not ready; it is looked at again.");
    await pause(backoff.nextMs(), signal);
    missing = await look(new Set(missing.map(({ name }) => name)));
  }
  return undefined;
}

function warn(advice: readonly Check[], log: Log): void {
  for (const { name, problem } of advice)
    if (problem !== undefined)
      log.warn({ check: name, problem }, "A prerequisite that is not required is missing.");
}

function toProblem(missing: readonly Check[], log: Log): { code: ErrorCode; message: string } | undefined {
  // What somebody must correct says more about the machine than what may be late.
  const [first] = [...missing].sort((a, b) => Number(a.canHeal) - Number(b.canHeal));
  if (first === undefined) return undefined;
  log.error({ checks: tell(missing) }, "The machine lacks what is needed.");
  return { code: first.code, message: missing.map(({ problem }) => problem).join(" ") };
}

const tell = (missing: readonly Check[]): Record<string, string | undefined> =>
  Object.fromEntries(missing.map(({ name, problem }) => [name, problem]));
