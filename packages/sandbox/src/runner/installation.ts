import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isScenarioName, type JobOverrides, type ScenarioName } from "./scenarios.ts";

/** What only the stand-in has: `bin/stand-in.json`. */
export interface StandIn {
  readonly version: string;
  readonly timeFactor: number;
}

export interface Installation extends StandIn {
  readonly root: string;
  /** From FAKE_SCENARIO.json; null when there is none. */
  readonly scenario: ScenarioName | null;
  readonly overrides: JobOverrides;
  /** Waits so many of the real program's seconds; ends early, without an error, when aborted. */
  wait(seconds: number, signal?: AbortSignal): Promise<void>;
}

/** The installation that the running program belongs to: the parent of the folder of its own file. */
export function readInstallation(): Installation {
  const binary = resolve(process.argv[1] ?? "");
  const root = dirname(dirname(binary));
  const { version, timeFactor } = JSON.parse(
    readFileSync(join(root, "bin", "stand-in.json"), "utf8"),
  ) as StandIn;
  let scenario: ScenarioName | null = null;
  let overrides: JobOverrides = {};
  try {
    const file = JSON.parse(readFileSync(join(root, "FAKE_SCENARIO.json"), "utf8")) as {
      scenario?: unknown;
      overrides?: JobOverrides;
    };
    if (isScenarioName(file.scenario)) scenario = file.scenario;
    overrides = file.overrides ?? {};
  } catch {
    // No scenario of its own: jobs bring theirs.
  }
  const wait = async (seconds: number, signal?: AbortSignal) => {
    const options = signal ? { signal } : {};
    await delay(seconds * 1000 * timeFactor, undefined, options).catch(() => {});
  };
  return { root, version, timeFactor, scenario, overrides, wait };
}

export function writeStandIn(binFolder: string, standIn: StandIn): void {
  writeFileSync(join(binFolder, "stand-in.json"), JSON.stringify(standIn));
}
