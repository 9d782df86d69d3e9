import { pause } from "@mig/kit";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { CloudFacts } from "../cloud-facts.ts";
import type { SettingKey, Settings } from "../settings-table.ts";

/** What the machine must have before a life begins (DESIGN §6.1), and what came of looking. */
export interface Check {
  readonly name: string;
  readonly isRequired: boolean;
  /** Undefined = all well. What is missing, and what to do. */
  readonly problem?: string;
  readonly code: ErrorCode;
  /** Something worth knowing where all is well. */
  readonly note?: string;
  /** It was not looked for, because these settings are wrong or missing. */
  readonly skippedFor?: readonly string[];
  /** It may come by itself: a network, a daemon, a mount of a machine that still boots. */
  readonly canHeal: boolean;
}

/** The machine as the checks see it. */
export interface Machine {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly facts?: CloudFacts;
}

export interface CheckSpec {
  readonly name: string;
  /** Without these it cannot be looked for. */
  readonly needs: readonly SettingKey[];
  readonly isRequired: (settings: Settings) => boolean;
  readonly code?: ErrorCode;
  readonly canHeal?: boolean;
  /** Worth its time at each boot even where it is not required. */
  readonly isCheap: boolean;
  /** Rejects with the problem; answers a note, or nothing. `signal` ends what it began. */
  readonly find: (settings: Settings, machine: Machine, signal: AbortSignal) => Promise<string | undefined>;
}

/** Nobody waits for longer; whoever hangs (a dead NFS server, a firewall that drops) has failed. */
export const checkMs = 5_000;

export async function runCheck(
  spec: CheckSpec,
  values: Partial<Settings>,
  wrong: ReadonlySet<string>,
  machine: Machine,
  withinMs: number = checkMs,
): Promise<Check> {
  const { name, needs, code = "prerequisite_missing", canHeal = false } = spec;
  const skippedFor = needs.filter((key) => wrong.has(key));
  // What `needs` does not name may be absent here only when it is wrong, and then it is looked for as if not given.
  const settings = values as Settings;
  const about = { name, code, canHeal };
  if (skippedFor.length > 0) return { ...about, isRequired: false, skippedFor };
  const isRequired = spec.isRequired(settings);
  const over = new AbortController();
  try {
    const found = spec.find(settings, machine, over.signal);
    found.catch(() => {});
    const late = pause(withinMs, over.signal).then((): never => {
      throw new Error(`${name} could not be looked at within ${withinMs / 1_000} s: see what hangs there.`);
    });
    return { ...about, isRequired, ...maybe("note", await Promise.race([found, late])) };
  } catch (error) {
    return {
      ...about,
      isRequired,
      code: error instanceof MigError ? error.code : code,
      problem: error instanceof Error ? error.message : String(error),
    };
  } finally {
    over.abort();
  }
}
