import { MigError } from "@mig/lifecycle";
import { asObject, readNumber, readText, readTimeMs } from "@mig/protocol";
import type { GithubApi } from "./api.ts";
import type { Grant, GrantSource, GrantWish, Pool } from "./grant-source.ts";

/** Grants from a GitHub App: a JIT config or a registration token, as the pool says. */
export function createAppGrants(api: GithubApi, poolOf: (poolId: string) => Pool | undefined): GrantSource {
  return {
    async issue(wish) {
      const base = apiBaseOf(wish.pool.runnerUrl);
      const common = {
        runnerName: wish.runnerName,
        runnerUrl: wish.pool.runnerUrl,
        runnerGroup: wish.runnerGroup ?? wish.pool.runnerGroup,
        labels: wish.labels ?? wish.pool.labels,
      };
      return wish.pool.registration === "jit" ? issueJit(base, wish, common) : issueToken(base, common);
    },
    async remove({ poolId, runnerName }) {
      const pool = poolOf(poolId);
      if (pool === undefined) return "unknown";
      const base = apiBaseOf(pool.runnerUrl);
      const found = await api.call("GET", base, `/actions/runners?name=${encodeURIComponent(runnerName)}`);
      const runners = Array.isArray(found["runners"]) ? found["runners"] : [];
      // Servers that do not know the filter list everybody: never take another's runner for this one.
      const own = runners
        .map((item) => asObject(item) ?? {})
        .find((it) => readText(it, "name") === runnerName);
      const id = readNumber(own ?? {}, "id");
      if (id === undefined) return runners.length === 0 ? "removed" : "unknown";
      try {
        await api.call("DELETE", base, `/actions/runners/${id}`);
        return "removed";
      } catch (error) {
        if (!(error instanceof MigError)) throw error;
        if (error.code === "github_not_installed") return "removed"; // 404: somebody was faster
        if (error.code === "github_conflict" && /still running a job/i.test(error.message)) return "busy";
        throw error;
      }
    },
  };

  async function issueJit(base: string, wish: GrantWish, common: Omit<Grant, "expiresAtMs">): Promise<Grant> {
    const answer = await api.call("POST", base, "/actions/runners/generate-jitconfig", {
      name: wish.runnerName,
      runner_group_id: await groupId(base, common.runnerGroup),
      labels: common.labels,
      work_folder: "_work",
    });
    const jitConfig = readText(answer, "encoded_jit_config");
    if (jitConfig === undefined) throw new MigError("github_unavailable", "GitHub's JIT config came empty");
    // GitHub names no expiry for a JIT config; an unused one is removed like any idle runner. An hour is ours.
    return { ...common, jitConfig, expiresAtMs: Date.now() + 3_600_000 };
  }

  async function issueToken(base: string, common: Omit<Grant, "expiresAtMs">): Promise<Grant> {
    const answer = await api.call("POST", base, "/actions/runners/registration-token", {});
    const registrationToken = readText(answer, "token");
    const expiresAtMs = readTimeMs(answer, "expires_at");
    if (registrationToken === undefined || expiresAtMs === undefined) {
      throw new MigError(
        "github_unavailable",
        "GitHub's registration token came without token or expires_at",
      );
    }
    return { ...common, registrationToken, expiresAtMs };
  }

  /** Group 1 is the default one of every organization; repositories have no groups (runner-contract §7.2). */
  async function groupId(base: string, name: string): Promise<number> {
    if (base.startsWith("/repos/") || /^default$/i.test(name)) return 1;
    const answer = await api.call("GET", base, "/actions/runner-groups?per_page=100");
    const groups = Array.isArray(answer["runner_groups"]) ? answer["runner_groups"] : [];
    for (const item of groups) {
      const group = asObject(item) ?? {};
      if (readText(group, "name")?.toLowerCase() === name.toLowerCase()) return readNumber(group, "id") ?? 1;
    }
    throw new MigError(
      "github_forbidden",
      `the organization has no runner group "${name}"; create it, or correct the pool`,
    );
  }
}

/** `https://github.com/ORG` → `/orgs/ORG`; `https://github.com/OWNER/REPO` → `/repos/OWNER/REPO`. */
export function apiBaseOf(runnerUrl: string): string {
  const parts = URL.canParse(runnerUrl)
    ? new URL(runnerUrl).pathname.split("/").filter((part) => part !== "")
    : [];
  if (parts.length === 1) return `/orgs/${parts[0]}`;
  if (parts.length === 2) return `/repos/${parts[0]}/${parts[1]}`;
  throw new MigError("settings_invalid", `runner_url ${runnerUrl} names no organization and no repository`);
}
