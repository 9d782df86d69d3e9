import { asObject, isId, limits, type Unknown } from "@mig/protocol";
import type { Problem } from "./env.ts";
import { nearest } from "./nearest.ts";
import { problemOfUrl } from "./values.ts";

/** VMs with the same labels, runner group, organization and join policy. */
export interface PoolConfig {
  id: string;
  orgId: string;
  runnerUrl: string;
  runnerGroup: string;
  labels: string[];
  registration: "jit" | "token";
  /** Agents from before MIG belong to it: served over gRPC without credentials (reference/go-agent-wire.md §14). */
  legacyAgents: boolean;
  /** After its job a VM registers again instead of shutting down. */
  reuse: boolean;
}

const keys = [
  "id",
  "org_id",
  "runner_url",
  "runner_group",
  "labels",
  "registration",
  "legacy_agents",
  "reuse",
] as const;

/** The pools of a YAML file; what one leaves out it takes from `base`. */
export function readPools(
  content: unknown,
  fileName: string,
  base: PoolConfig,
  problems: Problem[],
): PoolConfig[] {
  if (content === undefined || content === null) return [];
  if (!Array.isArray(content)) {
    problems.push({ message: `${fileName}: pools is a list, as in "pools: [{ id: linux, runner_url: … }]"` });
    return [];
  }
  const pools = content.map((item, i) => readPool(item, `${fileName}: pools[${i}]`, base, problems));
  const seen = new Set<string>();
  for (const { id } of pools) {
    if (seen.has(id))
      problems.push({ message: `${fileName}: the pool "${id}" is there twice; give each its own id` });
    seen.add(id);
  }
  return pools;
}

export function readPool(
  content: unknown,
  source: string,
  base: PoolConfig,
  problems: Problem[],
): PoolConfig {
  const from = asObject(content);
  const refuse = (rule: string): void => void problems.push({ message: `${source} ${rule}` });
  if (from === undefined) {
    refuse(`holds the keys ${keys.join(", ")}`);
    return base;
  }
  for (const key of Object.keys(from)) {
    if ((keys as readonly string[]).includes(key)) continue;
    const guess = nearest(key, keys);
    refuse(`has a key "${key}" that is not known${guess === undefined ? "" : `; did you mean ${guess}?`}`);
  }
  const registration = text(from, "registration") ?? base.registration;
  if (registration !== "jit" && registration !== "token") refuse(".registration is jit or token");
  const pool: PoolConfig = {
    id: text(from, "id") ?? base.id,
    orgId: text(from, "org_id") ?? base.orgId,
    runnerUrl: (text(from, "runner_url") ?? base.runnerUrl).replace(/\/+$/, ""),
    runnerGroup: text(from, "runner_group") ?? base.runnerGroup,
    labels: readLabels(from["labels"], base.labels, refuse),
    registration: registration === "token" || registration === "jit" ? registration : base.registration,
    legacyAgents: readSwitch(from, "legacy_agents", base.legacyAgents, refuse),
    reuse: readSwitch(from, "reuse", base.reuse, refuse),
  };
  if (!isId(pool.id)) refuse('.id is missing or not an id: letters, digits, ".", "_" and "-"');
  if (!isId(pool.orgId)) refuse(".org_id is missing or not an id");
  const urlProblem = problemOfUrl(pool.runnerUrl);
  if (urlProblem !== undefined) refuse(`.runner_url ${urlProblem}`);
  return pool;
}

function text(from: Unknown, key: string): string | undefined {
  const value = from[key];
  if (value === undefined || value === null) return undefined;
  return typeof value === "object" ? "" : String(value);
}

function readSwitch(from: Unknown, key: string, otherwise: boolean, refuse: (rule: string) => void): boolean {
  const value = from[key];
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== "boolean") refuse(`.${key} is true or false`);
  return value === true;
}

function readLabels(value: unknown, otherwise: string[], refuse: (rule: string) => void): string[] {
  if (value === undefined || value === null) return otherwise;
  const items: unknown[] = Array.isArray(value) ? value : String(value).split(",");
  const labels = items.map((item) => String(item).trim()).filter((label) => label !== "");
  const problem = problemOfLabels(labels);
  if (problem !== undefined) refuse(`.labels ${problem}`);
  return labels;
}

/** A label travels in a comma-separated argument of config.sh, and one that begins with "-" would be read as a flag. */
export function problemOfLabels(labels: readonly string[]): string | undefined {
  if (labels.length > limits.labelsMax) return `are at most ${limits.labelsMax}`;
  const bad = labels.find(
    (label) => label.length > limits.labelLengthMax || !/^[^\s,"'-][^\s,"']*$/.test(label),
  );
  return bad === undefined
    ? undefined
    : `hold "${bad.slice(0, 40)}"; a label has no spaces, commas or quotes and no leading "-"`;
}
