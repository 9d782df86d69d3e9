import { isId, limits, maybe } from "@mig/protocol";
import type { Problem } from "./env.ts";
import { Fields, readList } from "./fields.ts";
import { type JoinPolicy, readJoinPolicy } from "./join-policy.ts";
import { type OrgConfig, problemOfAccount } from "./orgs.ts";
import { type RunnerPin, readRunnerPin } from "./runner-pin.ts";
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
  /** Its runner group may be open to public repositories (reliability-security §6 F5). */
  allowPublic: boolean;
  /** What the inventory does with runners of VMs that are over; absent: it removes them. */
  leftover?: "remove" | "report";
  /** The GitHub App that serves it, where that is not its organization's. */
  app?: string;
  runner?: RunnerPin;
  /** The machines that it takes by what their cloud says of them. */
  join?: JoinPolicy;
}

export const poolKeys = [
  "id",
  "org_id",
  "runner_url",
  "runner_group",
  "labels",
  "registration",
  "legacy_agents",
  "reuse",
  "runner",
  "app",
  "allow_public",
  "leftover",
  "join",
] as const;

/** The pools of a YAML file; what one leaves out it takes from its organization, and else from `base`. */
export function readPools(
  content: unknown,
  source: string,
  base: PoolConfig,
  problems: Problem[],
  orgs: readonly OrgConfig[] = [],
): PoolConfig[] {
  return readList(content, source, "{ id: linux, runner_url: … }", problems, (item, where) =>
    readPool(item, where, base, problems, orgs),
  );
}

export function readPool(
  content: unknown,
  source: string,
  base: PoolConfig,
  problems: Problem[],
  orgs: readonly OrgConfig[] = [],
): PoolConfig {
  const fields = new Fields(content, source, poolKeys, problems);
  const refuse = (rule: string): void => fields.refuse(rule);
  const registration = fields.text("registration") ?? base.registration;
  if (registration !== "jit" && registration !== "token") refuse(".registration is jit or token");
  const orgId = fields.text("org_id") ?? base.orgId;
  const org = orgs.find(({ id }) => id === orgId);
  const leftover = fields.text("leftover") ?? base.leftover;
  if (leftover !== undefined && leftover !== "remove" && leftover !== "report")
    refuse(".leftover is remove or report");
  const pool: PoolConfig = {
    id: fields.text("id") ?? base.id,
    orgId,
    runnerUrl: (fields.text("runner_url") ?? org?.github ?? base.runnerUrl).replace(/\/+$/, ""),
    runnerGroup: fields.text("runner_group") ?? base.runnerGroup,
    labels: readLabels(fields.raw("labels"), base.labels, refuse),
    registration: registration === "token" || registration === "jit" ? registration : base.registration,
    legacyAgents: fields.switch("legacy_agents", base.legacyAgents),
    reuse: fields.switch("reuse", base.reuse),
    allowPublic: fields.switch("allow_public", base.allowPublic),
    ...(leftover === "remove" || leftover === "report" ? { leftover } : {}),
    ...maybe("app", fields.id("app") ?? base.app),
    ...maybe("runner", readRunnerPin(fields.raw("runner"), base.runner, refuse)),
    ...maybe(
      "join",
      fields.has("join") ? readJoinPolicy(fields.raw("join"), `${source}.join`, problems) : base.join,
    ),
  };
  if (!isId(pool.id)) refuse('.id is missing or not an id: letters, digits, ".", "_" and "-"');
  if (!isId(pool.orgId)) refuse(".org_id is missing or not an id");
  if (pool.runnerGroup.length > 128) refuse(".runner_group is the name or the number of a runner group");
  const urlProblem =
    pool.runnerUrl === ""
      ? "is missing: where its runners register, or the org_id of an organization that says so"
      : (problemOfUrl(pool.runnerUrl) ?? problemOfAccount(pool.runnerUrl));
  if (urlProblem !== undefined) refuse(`.runner_url ${urlProblem}`);
  else if (org !== undefined && !isWithin(pool.runnerUrl, org.github))
    refuse(`.runner_url ${pool.runnerUrl} is not of its organization "${org.id}", which is ${org.github}`);
  return pool;
}

/** A repository's runners may belong to its organization's pools. */
function isWithin(runnerUrl: string, orgUrl: string): boolean {
  const [one, all] = [runnerUrl.toLowerCase(), orgUrl.toLowerCase()];
  return one === all || one.startsWith(`${all}/`);
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
