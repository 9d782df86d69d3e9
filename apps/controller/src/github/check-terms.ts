import { MigError } from "@mig/lifecycle";
import { asObject, readNumber, readText, type Unknown } from "@mig/protocol";
import type { AppConfig } from "../config/apps.ts";
import type { OrgConfig } from "../config/orgs.ts";
import type { PoolConfig } from "../config/pools.ts";
import { type Account, accountOf } from "./account.ts";

/** What a probe asks about, and how it says what it found; no I/O. */

/** A JWT's issuer may be the number or the client id; GitHub tells both. */
export function otherApp(answer: Unknown, issuer: string): string | undefined {
  const id = readNumber(answer, "id");
  if (/^\d+$/.test(issuer) ? id === Number(issuer) : readText(answer, "client_id") === issuer)
    return undefined;
  // Servers before client ids do not tell one.
  if (!/^\d+$/.test(issuer) && answer["client_id"] === undefined) return undefined;
  return `GitHub says that this is the App ${id ?? "without a number"}, and the settings say ${issuer}`;
}

export function accountsOf(orgs: readonly OrgConfig[], pools: readonly PoolConfig[]): Account[] {
  const accounts = new Map<string, Account>();
  for (const url of [...orgs.map(({ github }) => github), ...pools.map(({ runnerUrl }) => runnerUrl)]) {
    const account = accountOf(url);
    accounts.set(account.name.toLowerCase(), account);
  }
  return [...accounts.values()];
}

export function groupsOf(account: Account, pools: readonly PoolConfig[]) {
  const wishes = new Map<string, { account: string; group: string; allowPublic: boolean }>();
  for (const { runnerUrl, runnerGroup, allowPublic } of pools) {
    if (accountOf(runnerUrl).name.toLowerCase() !== account.name.toLowerCase()) continue;
    const key = runnerGroup.toLowerCase();
    const before = wishes.get(key);
    wishes.set(key, {
      account: account.name,
      group: runnerGroup,
      // One pool that does not allow it is enough: they share the group.
      allowPublic: allowPublic && (before?.allowPublic ?? true),
    });
  }
  return [...wishes.values()];
}

/** By name or number; group 1 is the default one of every organization (runner-contract §7.2). */
export function isGroup(wanted: string): (group: Unknown) => boolean {
  if (/^(?:default)?$/i.test(wanted)) return (group) => group["default"] === true || group["id"] === 1;
  if (/^\d{1,9}$/.test(wanted)) return (group) => group["id"] === Number(wanted);
  return (group) => readText(group, "name")?.toLowerCase() === wanted.toLowerCase();
}

export function messageOf(error: unknown): string {
  return error instanceof MigError ? error.message : "the probe failed; the controller's log says why";
}

export function remedyOf(error: unknown, app: AppConfig): string {
  const code = error instanceof MigError ? error.code : undefined;
  if (code === "github_unauthorized")
    return "GitHub does not take this key: compare its fingerprint with those in the App's settings";
  if (code === "github_not_installed")
    return `GitHub at ${app.apiUrl} does not know it: correct app_id or api_url`;
  if (code === "github_forbidden")
    return "the App lacks a permission, or is suspended: see its settings at GitHub";
  if (code === "github_rate_limited") return "wait, then check again";
  return `see that the controller reaches ${app.apiUrl}, then check again`;
}

/** Where people look at it. */
export function webOf(apiUrl: string): string {
  const { protocol, host } = new URL(apiUrl);
  return `${protocol}//${host === "api.github.com" || host.endsWith(".ghe.com") ? host.replace(/^api\./, "") : host}`;
}

export function settingsOf(about: Unknown, apiUrl: string): string {
  const owner = asObject(about["owner"]) ?? {};
  const login = readText(owner, "login");
  const slug = readText(about, "slug") ?? "";
  const isUser = readText(owner, "type") === "User" || login === undefined;
  return `${webOf(apiUrl)}/${isUser ? "settings" : `organizations/${login}/settings`}/apps/${slug}`;
}
