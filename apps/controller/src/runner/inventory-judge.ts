import type { VmState } from "@mig/lifecycle";
import { isTerminal } from "@mig/lifecycle";
import type { ListedRunner } from "../github/list-runners.ts";
import type { GrantState } from "../store/grant-rows.ts";

/**
 * What GitHub's list of runners means beside our VMs and grants (reliability-security §6 F17). No I/O.
 *
 * ours       of a grant of ours, and its VM lives; or a living VM says that it is its own
 * offline    ours, and GitHub has not heard it for long
 * leftover   of a grant of ours that is over, or whose VM or boot is: nobody will use it
 * duplicate  its VM has registered another one since
 * ghost      is called as ours are, and of no grant: somebody imitates us, or our database is not the one it was
 * foreign    none of ours
 * missing    none at all: a VM says that its runner listens, and GitHub does not know it
 *
 * Only what a grant proves to be ours may be removed: VMs can say any name, and a name can be given by anybody.
 */
export const verdicts = ["ours", "offline", "leftover", "duplicate", "ghost", "foreign", "missing"] as const;
export type Verdict = (typeof verdicts)[number];

export interface KnownGrant {
  id: string;
  vmId: string;
  incarnation: string;
  poolId: string;
  orgId: string;
  state: GrantState;
  /** Of its last try. */
  runnerName: string | null;
  runnerId: number | null;
  wantedAtMs: number;
  settledAtMs: number | null;
}

export interface KnownVm {
  vmId: string;
  incarnation: string;
  poolId: string;
  orgId: string;
  state: VmState;
  isOnline: boolean;
  runnerName: string | null;
}

/** What the last look wrote about an entry. */
export interface SeenBefore {
  entry: string;
  verdict: Verdict;
  verdictAtMs: number;
  offlineAtMs: number | null;
}

export interface Sight {
  nowMs: number;
  /** When GitHub was asked: what has happened since is not in its list. */
  askedAtMs: number;
  isComplete: boolean;
  runners: readonly ListedRunner[];
  /** Read after the list, so that every runner of ours that is in it has its grant here. */
  grants: readonly KnownGrant[];
  /** Read after the grants. */
  vms: readonly KnownVm[];
  before: readonly SeenBefore[];
  offlineAfterMs: number;
}

export interface Finding {
  entry: string;
  verdict: Verdict;
  /** For people. */
  reason: string;
  runnerId: number | null;
  runnerName: string;
  vmId: string | null;
  poolId: string | null;
  orgId: string | null;
  grantId: string | null;
  isOnline: boolean;
  isBusy: boolean;
  offlineAtMs: number | null;
  verdictAtMs: number;
}

export const entryOfRunner = (runnerId: number): string => String(runnerId);
export const entryOfVm = (vmId: string): string => `vm:${vmId}`;

/** What a grant's runners are called without the number of the try (make-grants.ts). */
export const stemOf = ({ id, vmId }: Pick<KnownGrant, "id" | "vmId">): string =>
  `${vmId.slice(0, 48)}-${id.slice(-8)}`;

/** The stem of a name that looks like one of ours; undefined for all others. */
export function stemIn(runnerName: string): string | undefined {
  return /^([A-Za-z0-9._-]{1,48}-[0-9a-f]{8})-[0-9]{1,4}$/.exec(runnerName)?.[1];
}

export function judgeRunners(sight: Sight): Finding[] {
  const { nowMs, runners, vms, grants } = sight;
  const byStem = new Map<string, KnownGrant | null>();
  // Two of one stem say nothing about whose it is.
  for (const grant of grants) byStem.set(stemOf(grant), byStem.has(stemOf(grant)) ? null : grant);
  const vmById = new Map(vms.map((vm) => [vm.vmId, vm]));
  const claimed = new Map(
    vms.flatMap((vm) => (vm.runnerName === null || isTerminal(vm.state) ? [] : [[vm.runnerName, vm]])),
  );
  const latest = latestUsed(grants);
  const before = new Map(sight.before.map((one) => [one.entry, one]));

  const judged = runners.map((runner): Finding => {
    const { grant, vm, verdict, reason } = judge(runner);
    const entry = entryOfRunner(runner.id);
    const offlineAtMs = runner.isOnline ? null : (before.get(entry)?.offlineAtMs ?? nowMs);
    const isStale = verdict === "ours" && offlineAtMs !== null && nowMs - offlineAtMs > sight.offlineAfterMs;
    return dated({
      entry,
      verdict: isStale ? "offline" : verdict,
      reason: isStale ? "GitHub does not hear it, and its VM lives" : reason,
      runnerId: runner.id,
      runnerName: runner.name,
      vmId: grant?.vmId ?? vm?.vmId ?? null,
      poolId: grant?.poolId ?? vm?.poolId ?? null,
      orgId: grant?.orgId ?? vm?.orgId ?? null,
      grantId: grant?.id ?? null,
      isOnline: runner.isOnline,
      isBusy: runner.isBusy,
      offlineAtMs,
    });
  });
  return [...judged, ...(sight.isComplete ? findMissing(sight, latest).map(dated) : [])];

  function judge(runner: ListedRunner): {
    verdict: Verdict;
    reason: string;
    grant?: KnownGrant;
    vm?: KnownVm;
  } {
    const stem = stemIn(runner.name);
    const grant = stem === undefined ? undefined : byStem.get(stem);
    if (stem !== undefined && grant !== undefined && grant !== null) return judgeOwn(runner, grant);
    const vm = claimed.get(runner.name);
    if (vm !== undefined) return { verdict: "ours", reason: "its VM says so", vm };
    if (stem === undefined) return { verdict: "foreign", reason: "it is not called as ours are" };
    return { verdict: "ghost", reason: "it is called as ours are, and no grant of ours made it" };
  }

  function judgeOwn(runner: ListedRunner, grant: KnownGrant) {
    const vm = vmById.get(grant.vmId);
    const is = (verdict: Verdict, reason: string) => ({ verdict, reason, grant });
    const isCurrent = runner.name === grant.runnerName;
    if (isCurrent && grant.runnerId !== null && grant.runnerId !== runner.id)
      return { verdict: "ghost" as const, reason: `it has the name of our runner ${grant.runnerId}` };
    if (grant.state === "void" || grant.state === "failed")
      return is("leftover", `its grant is ${grant.state}`);
    if (vm === undefined) return is("leftover", "its VM is not known any more");
    if (isTerminal(vm.state)) return is("leftover", `its VM is ${vm.state}`);
    if (vm.incarnation !== grant.incarnation) return is("leftover", "its VM has booted since");
    if (grant.state === "wanted" || grant.state === "making") return is("ours", "its grant is being made");
    if (!isCurrent && vm.runnerName !== runner.name)
      return is("leftover", "its grant was made again under another name");
    if (grant.state === "made") return is("ours", "its VM has its grant and has not registered yet");
    const newest = latest.get(keyOf(grant));
    if (newest !== undefined && newest.id !== grant.id && vm.runnerName !== runner.name)
      return is("duplicate", `its VM has registered ${newest.runnerName ?? "another one"} since`);
    return is("ours", "its VM lives");
  }

  function dated(finding: Omit<Finding, "verdictAtMs">): Finding {
    const known = before.get(finding.entry);
    return { ...finding, verdictAtMs: known?.verdict === finding.verdict ? known.verdictAtMs : nowMs };
  }
}

/** What may be asked of GitHub: never a busy one, and of two only the one that nobody hears. */
export function isRemovable({ verdict, grantId, isBusy, isOnline }: Finding): boolean {
  if (isBusy || grantId === null) return false;
  return verdict === "leftover" || (verdict === "duplicate" && !isOnline);
}

function findMissing(
  { runners, vms, grants, askedAtMs }: Sight,
  latest: ReadonlyMap<string, KnownGrant>,
): Omit<Finding, "verdictAtMs">[] {
  const names = new Set(runners.map(({ name }) => name));
  const registering = new Set(
    grants
      .filter(({ state }) => state === "wanted" || state === "making" || state === "made")
      .map(({ vmId }) => vmId),
  );
  return vms.flatMap((vm) => {
    const { vmId, poolId, orgId, state, isOnline, runnerName } = vm;
    const grant = latest.get(keyOf(vm));
    // Of one that is silent nobody knows whether it still says so; one that registers has no runner for a moment.
    if ((state !== "idle" && state !== "running") || !isOnline || registering.has(vmId)) return [];
    if (grant?.settledAtMs == null || grant.settledAtMs >= askedAtMs) return [];
    const name = grant.runnerName ?? "";
    if (names.has(name) || (runnerName !== null && names.has(runnerName))) return [];
    return [
      {
        entry: entryOfVm(vmId),
        verdict: "missing" as const,
        reason: `its VM is ${state}, and GitHub does not know its runner`,
        runnerId: null,
        runnerName: name,
        vmId,
        poolId,
        orgId,
        grantId: grant.id,
        isOnline: false,
        isBusy: false,
        offlineAtMs: null,
      },
    ];
  });
}

const keyOf = ({ vmId, incarnation }: Pick<KnownVm, "vmId" | "incarnation">): string =>
  `${vmId}\n${incarnation}`;

/** Of each boot the grant whose runner registered last. */
function latestUsed(grants: readonly KnownGrant[]): Map<string, KnownGrant> {
  const latest = new Map<string, KnownGrant>();
  for (const grant of grants) {
    if (grant.state !== "used") continue;
    const other = latest.get(keyOf(grant));
    if (other === undefined || (grant.settledAtMs ?? 0) > (other.settledAtMs ?? 0))
      latest.set(keyOf(grant), grant);
  }
  return latest;
}
