import { MigError } from "@mig/lifecycle";
import { asObject, readText, type Unknown } from "@mig/protocol";
import type { AppConfig } from "../config/apps.ts";
import type { OrgConfig } from "../config/orgs.ts";
import type { PoolConfig } from "../config/pools.ts";
import type { Account } from "./account.ts";
import { type AppKey, signJwt } from "./app-jwt.ts";
import { CheckList, type CheckReport } from "./check-report.ts";
import {
  accountsOf,
  groupsOf,
  isGroup,
  messageOf,
  otherApp,
  remedyOf,
  settingsOf,
  webOf,
} from "./check-terms.ts";
import {
  judgeClock,
  judgeGroup,
  judgeLimits,
  judgePermissions,
  lackingIn,
  permissionsFor,
  readInstallation,
  skewMaxMs,
} from "./judge-app.ts";
import type { GithubRefusal } from "./refusal.ts";
import { createGithubWire, type GithubWire } from "./wire.ts";

export type { CheckReport } from "./check-report.ts";

/** A key as it was found, or why it was not. */
export interface KeyFound {
  role: "key" | "previous_key" | "signer";
  reference: string;
  version?: string;
  key?: AppKey;
  problem?: string;
}

export interface CheckAppSettings {
  app: AppConfig;
  keys: readonly KeyFound[];
  /** Those that it serves. */
  orgs: readonly OrgConfig[];
  pools: readonly PoolConfig[];
  groupPolicy: "warn" | "deny";
  /** Waits for the App's turn: a probe is paced like everything else that calls GitHub. */
  admit(): Promise<void>;
  signal: AbortSignal;
  timeoutMs?: number;
}

const accountsMax = 50;
const totalMs = 60_000;

/**
 * Asks GitHub everything that must hold before the first runner: with calls of its own, so that it tells the truth also
 * about an App that does not work, and changes nothing but buying one installation token for each account.
 */
export async function checkApp(settings: CheckAppSettings): Promise<CheckReport> {
  const { app, keys, orgs, pools, groupPolicy, admit } = settings;
  const list = new CheckList();
  const headers: Record<string, unknown> = {};
  const limit = AbortSignal.any([settings.signal, AbortSignal.timeout(settings.timeoutMs ?? totalMs)]);
  const wire = createGithubWire({
    apiUrl: app.apiUrl,
    signal: limit,
    onAnswer: (answer: GithubRefusal) => void Object.assign(headers, answer.headers),
  });
  const works = await proveKeys();
  if (works !== undefined) {
    judgeClock(list, wire.skewMs());
    await checkAccounts(works.key, works.answer);
  }
  judgeLimits(list, headers);
  return list.report(app.id);

  async function send(route: string, parameters: Unknown, bearer: () => Promise<string>): Promise<Unknown> {
    await admit();
    return wire.send(route, parameters, await bearer());
  }

  /** Each key by itself: one that only stands by must work too when its day comes. */
  async function proveKeys(): Promise<{ key: AppKey; answer: Unknown } | undefined> {
    let first: { key: AppKey; answer: Unknown } | undefined;
    for (const found of keys) {
      const about = `${found.role} ${found.reference}${found.version === undefined ? "" : ` (version ${found.version})`}`;
      const isMain = found === keys[0];
      const tell = isMain ? list.fail.bind(list) : list.warn.bind(list);
      if (found.key === undefined) {
        tell(
          "key",
          about,
          found.problem ?? "there is no key",
          "store the PEM file that GitHub gave out there",
        );
        continue;
      }
      list.well("key", about, `SHA256:${found.key.fingerprint}`);
      try {
        const answer = await asApp(wire, send, app.issuer, found.key, "GET /app", {});
        const mistake = otherApp(answer, app.issuer);
        if (mistake !== undefined) tell("app", about, mistake, "correct app_id, or the reference to the key");
        else {
          list.well("app", about, `${readText(answer, "slug") ?? readText(answer, "name") ?? app.issuer}`);
          first ??= { key: found.key, answer };
        }
      } catch (error) {
        tell("app", about, messageOf(error), remedyOf(error, app));
      }
    }
    if (keys.length === 0)
      list.fail("key", null, "the App has no key", "write key: with a reference to its private key");
    return first;
  }

  async function checkAccounts(key: AppKey, about: Unknown): Promise<void> {
    const accounts = accountsOf(orgs, pools);
    if (accounts.length === 0) {
      list.warn("pools", null, "no organization and no pool uses this App", "add a pool, or remove the App");
      return;
    }
    const place = settingsOf(about, app.apiUrl);
    const needed = permissionsFor(accounts);
    judgePermissions(list, null, asObject(about["permissions"]) ?? {}, needed, `${place}/permissions`);
    for (const account of accounts.slice(0, accountsMax)) await checkAccount(key, account, place);
    if (accounts.length > accountsMax)
      list.warn(
        "installation",
        null,
        `${accounts.length - accountsMax} further accounts were not looked at`,
        "share them between several Apps: one for each trust zone",
      );
  }

  async function checkAccount(key: AppKey, account: Account, place: string): Promise<void> {
    try {
      const answer = await asApp(
        wire,
        send,
        app.issuer,
        key,
        `GET ${account.base}/installation`,
        account.parameters,
      );
      const installed = readInstallation(answer);
      if (installed === undefined || installed.isSuspended) {
        list.fail(
          "installation",
          account.name,
          installed === undefined ? "GitHub's answer has no id" : "the installation is suspended",
          "an owner of the account lifts that under Settings, GitHub Apps",
        );
        return;
      }
      const lacking = lackingIn(installed.permissions, account.permissions);
      if (lacking.length > 0) {
        list.fail(
          "installation",
          account.name,
          `the installation lacks ${lacking.join(", ")}`,
          "an owner of the account accepts the App's new permissions under Settings, GitHub Apps",
        );
        return;
      }
      if (app.installationId !== undefined && app.installationId !== installed.id) {
        list.fail(
          "installation",
          account.name,
          `it is installation ${installed.id}, and the settings say ${app.installationId}`,
          "leave out installation_id: it is found by itself",
        );
        return;
      }
      list.well("installation", account.name, `installation ${installed.id}`);
      await checkGroups(key, account, installed.id);
    } catch (error) {
      const isMissing = error instanceof MigError && error.code === "github_not_installed";
      list.fail(
        "installation",
        account.name,
        isMissing ? `the App is not installed for ${account.name}` : messageOf(error),
        isMissing ? `install it: ${place}/installations` : remedyOf(error, app),
      );
    }
  }

  async function checkGroups(key: AppKey, account: Account, installation: number): Promise<void> {
    // Repositories have no groups (runner-contract §7.2).
    if (account.base !== "/orgs/{org}") return;
    const wishes = groupsOf(account, pools);
    if (wishes.length === 0) return;
    const where = `${webOf(app.apiUrl)}/organizations/${account.name}/settings/actions/runner-groups`;
    try {
      const bought = await asApp(
        wire,
        send,
        app.issuer,
        key,
        "POST /app/installations/{installation_id}/access_tokens",
        { installation_id: installation, permissions: account.permissions },
      );
      const token = readText(bought, "token") ?? "";
      const groups = await listGroups(account, async () => token);
      for (const wish of wishes)
        judgeGroup(list, { ...wish, where }, groups.find(isGroup(wish.group)), groupPolicy === "deny");
    } catch (error) {
      list.fail("runner_group", account.name, messageOf(error), remedyOf(error, app));
    }
  }

  async function listGroups(account: Account, bearer: () => Promise<string>): Promise<Unknown[]> {
    const groups: Unknown[] = [];
    for (let page = 1; page <= 20; page += 1) {
      const parameters = { ...account.parameters, per_page: 100, page };
      const answer = await send(`GET ${account.base}/actions/runner-groups`, parameters, bearer);
      const part = Array.isArray(answer["runner_groups"]) ? answer["runner_groups"] : [];
      groups.push(...part.map((item) => asObject(item) ?? {}));
      if (part.length < 100) break;
    }
    return groups;
  }
}

type Send = (route: string, parameters: Unknown, bearer: () => Promise<string>) => Promise<Unknown>;

/** With GitHub's time, once it is known that ours is another. */
async function asApp(
  wire: GithubWire,
  send: Send,
  issuer: string,
  key: AppKey,
  route: string,
  parameters: Unknown,
): Promise<Unknown> {
  const bearer = (): Promise<string> => signJwt(issuer, key, Date.now() + wire.skewMs());
  const skewBefore = wire.skewMs();
  try {
    return await send(route, parameters, bearer);
  } catch (error) {
    const isRefused = error instanceof MigError && error.code === "github_unauthorized";
    if (!isRefused || Math.abs(wire.skewMs() - skewBefore) < skewMaxMs) throw error;
    return send(route, parameters, bearer);
  }
}
