import { parseDurationMs } from "@mig/kit";
import type { Asked, Option } from "../options.ts";
import { UsageError } from "../verb.ts";

/** What an order that takes a VM away says of its job, and why it is given. */
export const endingOptions: Readonly<Record<string, Option>> = {
  deadline: { takes: "TIME", help: "so long may its job take, as in 10m" },
  "at-deadline": {
    takes: "WHAT",
    oneOf: ["force", "report"],
    help: "then force ends the job; report (default) only tells",
  },
  reason: { takes: "TEXT", help: "why; kept with the order" },
};

export const shutdownOptions: Readonly<Record<string, Option>> = {
  "after-job": { help: "when its job is over (default)" },
  force: { help: "now, whatever runs; overtakes commands that wait" },
};

/** The parameters of a drain or a shutdown. */
export function readEnding(asked: Asked): Record<string, string | true> {
  const { text, has } = asked;
  const [deadline, action, reason] = [text("deadline"), text("at-deadline"), text("reason")];
  if (has("force") && has("after-job")) throw new UsageError("--force excludes --after-job; choose one");
  if (has("force") && (deadline ?? action) !== undefined)
    throw new UsageError("--force waits for no job; leave --deadline and --at-deadline out");
  if (action !== undefined && deadline === undefined)
    throw new UsageError("--at-deadline needs --deadline, as in --deadline 10m");
  readTime(asked, "deadline");
  return {
    ...(has("force") ? { force: true as const } : {}),
    ...(deadline === undefined ? {} : { deadline }),
    ...(action === undefined ? {} : { at_deadline: action }),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** Milliseconds. */
export function readTime({ text }: Asked, name: string): number | undefined {
  const said = text(name);
  const ms = said === undefined ? undefined : parseDurationMs(said);
  if (said !== undefined && (ms === undefined || ms === 0))
    throw new UsageError(`--${name} takes a time, as in 90s, 10m or 2h`);
  return ms;
}
