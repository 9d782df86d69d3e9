import type { Unknown } from "@mig/protocol";
import { asObject, readBoolean, readText } from "@mig/protocol";
import type { Account } from "./account.ts";
import type { CheckList } from "./check-report.ts";

/** Judges GitHub's answers; no I/O. */

const levels = ["read", "write", "admin"];
const rank = (level: unknown): number => levels.indexOf(String(level));

/** What registering runners for these accounts takes (runner-contract §8.3). */
export function permissionsFor(accounts: readonly Account[]): Record<string, string> {
  return Object.assign({}, ...accounts.map(({ permissions }) => permissions)) as Record<string, string>;
}

/** `metadata` comes with every App; `actions: read` brings the webhooks of jobs, and `write` lets one cancel them. */
const harmless: Readonly<Record<string, string>> = { metadata: "read", actions: "write" };

export function lackingIn(granted: Unknown, needed: Readonly<Record<string, string>>): string[] {
  return Object.entries(needed).flatMap(([name, level]) =>
    rank(granted[name]) >= rank(level) ? [] : [`${name}: ${level}`],
  );
}

export function excessOf(granted: Unknown, needed: Readonly<Record<string, string>>): string[] {
  return Object.entries(granted).flatMap(([name, level]) => {
    const enough = Math.max(rank(needed[name]), rank(harmless[name]));
    return rank(level) > enough ? [`${name}: ${String(level).slice(0, 20)}`] : [];
  });
}

export function judgePermissions(
  list: CheckList,
  about: string | null,
  granted: Unknown,
  needed: Readonly<Record<string, string>>,
  where: string,
): void {
  const lacking = lackingIn(granted, needed);
  const excess = excessOf(granted, needed);
  if (lacking.length > 0)
    list.fail("permissions", about, `the App lacks ${lacking.join(", ")}`, `give it that: ${where}`);
  if (excess.length > 0)
    list.warn(
      "permissions",
      about,
      `the App may do more than register runners: ${excess.slice(0, 10).join(", ")}`,
      `whoever gets its key gets that too; take it away: ${where}`,
    );
  if (lacking.length === 0 && excess.length === 0)
    list.well(
      "permissions",
      about,
      Object.entries(needed)
        .map(([name, level]) => `${name}: ${level}`)
        .join(", ") || null,
    );
}

export interface GroupWish {
  account: string;
  group: string;
  /** The pools that want it may run jobs of public repositories. */
  allowPublic: boolean;
  /** Where an organization's groups are set up. */
  where: string;
}

/** reliability-security §6 F4 and F5: the default group is everybody's, and a fork's pull request runs on its runners. */
export function judgeGroup(
  list: CheckList,
  { account, group, allowPublic, where }: GroupWish,
  found: Unknown | undefined,
  isStrict: boolean,
): void {
  const about = `${account} / ${group === "" ? "default" : group}`;
  if (found === undefined) {
    list.fail(
      "runner_group",
      about,
      `${account} has no runner group "${group}" that the App can see`,
      `create it at ${where}, or correct the pool's runner_group`,
    );
    return;
  }
  const tell = isStrict ? list.fail.bind(list) : list.warn.bind(list);
  const before = list.lines.length;
  const visibility = readText(found, "visibility") ?? "unknown";
  if (visibility !== "selected")
    tell(
      "runner_group",
      about,
      `${visibility === "all" ? "every repository" : `every ${visibility} repository`} of ${account} may send jobs to it`,
      `choose "Selected repositories" for a group of its own at ${where}`,
    );
  if (!allowPublic && readBoolean(found, "allows_public_repositories") !== false)
    tell(
      "runner_group",
      about,
      "public repositories may use it: anybody's pull request could run on these VMs",
      `switch off "Allow public repositories" at ${where}, or write allow_public: true in the pool`,
    );
  if (list.lines.length === before) list.well("runner_group", about, "selected repositories");
}

export interface Installed {
  id: number;
  isSuspended: boolean;
  permissions: Unknown;
}

export function readInstallation(answer: Unknown): Installed | undefined {
  const id = answer["id"];
  if (typeof id !== "number" || !Number.isSafeInteger(id)) return undefined;
  return {
    id,
    isSuspended: answer["suspended_at"] !== undefined && answer["suspended_at"] !== null,
    permissions: asObject(answer["permissions"]) ?? {},
  };
}

/** More clock than this is told; it is corrected all the same (app.ts). */
export const skewMaxMs = 30_000;

export function judgeClock(list: CheckList, skewMs: number): void {
  const seconds = Math.round(skewMs / 1000);
  if (Math.abs(skewMs) <= skewMaxMs) list.well("clock", null, `${seconds} s`);
  else
    list.warn(
      "clock",
      null,
      `GitHub's clock is ${Math.abs(seconds)} s ${seconds > 0 ? "ahead of" : "behind"} this machine's`,
      "set up NTP on the controller's machine; until then its time is corrected",
    );
}

export function judgeLimits(list: CheckList, headers: Readonly<Record<string, unknown>>): void {
  const left = Number(headers["x-ratelimit-remaining"] ?? Number.NaN);
  const all = Number(headers["x-ratelimit-limit"] ?? Number.NaN);
  if (Number.isFinite(left) && left < all / 10)
    list.warn(
      "rate_limit",
      null,
      `${left} of ${all} calls are left in this hour`,
      "see what else uses this App; give pools an App of their own",
    );
  else if (Number.isFinite(left)) list.well("rate_limit", null, `${left} of ${all} left`);
  const version = headers["x-github-enterprise-version"];
  if (headers["date"] !== undefined)
    list.well(
      "version",
      null,
      version === undefined ? "GitHub.com" : `Enterprise Server ${String(version).slice(0, 40)}`,
    );
}
