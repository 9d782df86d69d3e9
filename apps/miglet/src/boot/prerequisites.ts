import { type Check, type CheckSpec, checkMs, type Machine, runCheck } from "./check/check.ts";
import { docker } from "./check/docker.ts";
import {
  bash,
  disk,
  environment,
  files,
  libraries,
  mounts,
  setpriv,
  stateDir,
  tar,
} from "./check/machine.ts";
import { metadataExposure } from "./check/metadata-exposure.ts";
import { directories, runner, user } from "./check/runner-files.ts";
import { processEnvironment } from "./settings.ts";
import type { Settings } from "./settings-table.ts";

export type { Check, Machine } from "./check/check.ts";

export interface CheckOptions {
  readonly machine?: Machine;
  /** Keys that are wrong: what needs them is not looked for. */
  readonly wrong?: ReadonlySet<string>;
  /** `miglet check` looks at everything. A boot waits for what is required, and is advised of what is cheap to know. */
  readonly scope?: "everything" | "required" | "advice";
  /** Only these. */
  readonly names?: ReadonlySet<string>;
  readonly withinMs?: number;
}

/** All at once and side by side, each within its own bound. Never rejects. */
export async function checkPrerequisites(
  values: Partial<Settings>,
  options: CheckOptions = {},
): Promise<Check[]> {
  const {
    machine = { environment: processEnvironment() },
    wrong = new Set(),
    scope = "required",
    names,
    withinMs = checkMs,
  } = options;
  const network = wantsNetwork(values, scope) ? (await import("./check/network.ts")).networkChecks() : [];
  const specs: readonly CheckSpec[] = [
    stateDir,
    files,
    runner,
    user,
    directories,
    disk,
    mounts,
    docker,
    ...network,
    bash,
    tar,
    ...(values["runner.user"] === undefined ? [] : [setpriv]),
    libraries,
    environment,
    ...(machine.facts === undefined ? [] : [metadataExposure]),
  ];
  const isWanted = (spec: CheckSpec): boolean => {
    if (names !== undefined && !names.has(spec.name)) return false;
    if (scope === "everything") return true;
    return isRequired(spec, values, wrong) ? scope === "required" : scope === "advice" && spec.isCheap;
  };
  const wanted = specs.filter(isWanted);
  return Promise.all(wanted.map((spec) => runCheck(spec, values, wrong, machine, withinMs)));
}

/** TLS and DNS are loaded by whoever looks at the network, and so not by a VM that is not asked to. */
function wantsNetwork(values: Partial<Settings>, scope: CheckOptions["scope"]): boolean {
  const isAsked = values["prerequisites.network"] === true || values["prerequisites.github"] === true;
  return scope === "everything" || (scope === "required" && isAsked);
}

function isRequired(spec: CheckSpec, values: Partial<Settings>, wrong: ReadonlySet<string>): boolean {
  return !spec.needs.some((key) => wrong.has(key)) && spec.isRequired(values as Settings);
}
