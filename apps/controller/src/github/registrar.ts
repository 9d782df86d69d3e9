import { MigError } from "@mig/lifecycle";
import { asObject, readNumber, readText, readTimeMs, type Unknown } from "@mig/protocol";
import { type Account, accountOf } from "./account.ts";
import type { GithubApp } from "./app.ts";

/** What GitHub does for runners: makes one registration, takes one away, says which there are. */
export interface Registrar {
  register(wish: RegistrarWish): Promise<Registration>;
  /** `busy` = GitHub says that a job runs there; `removed` also when there was none. */
  remove(wish: { runnerUrl: string; runnerName: string; runnerId?: number }): Promise<"removed" | "busy">;
}

export interface RegistrarWish {
  runnerUrl: string;
  runnerGroup: string;
  labels: string[];
  registration: "jit" | "token";
  runnerName: string;
}

export interface Registration {
  secret: { jit_config: string } | { registration_token: string };
  /** Known at once for a JIT config, later for a token. */
  runnerId?: number;
  expiresAtMs: number;
}

/** Runner groups change rarely, and each VM of a pool asks for the same one. */
const groupKeepMs = 5 * 60_000;

export function createRegistrar(app: GithubApp): Registrar {
  const groups = new Map<string, { id: number; untilMs: number }>();

  async function registerJit(account: Account, wish: RegistrarWish): Promise<Registration> {
    const answer = await app.call(
      account,
      "POST /actions/runners/generate-jitconfig",
      {
        name: wish.runnerName,
        runner_group_id: await groupId(account, wish.runnerGroup),
        labels: wish.labels,
        work_folder: "_work",
      },
      { weight: "none" },
    );
    const jitConfig = readText(answer, "encoded_jit_config");
    const runnerId = readNumber(asObject(answer["runner"]) ?? {}, "id");
    if (jitConfig === undefined || !/^[A-Za-z0-9+/=]{16,}$/.test(jitConfig))
      throw new MigError("github_unavailable", "GitHub's JIT config is none");
    // GitHub names no expiry for a JIT config; an unused one is removed like any idle runner. An hour is ours.
    return {
      secret: { jit_config: jitConfig },
      expiresAtMs: Date.now() + 3_600_000,
      ...(runnerId === undefined ? {} : { runnerId }),
    };
  }

  async function registerByToken(account: Account): Promise<Registration> {
    const answer = await app.call(
      account,
      "POST /actions/runners/registration-token",
      {},
      { weight: "none" },
    );
    const token = readText(answer, "token");
    const expiresAtMs = readTimeMs(answer, "expires_at");
    if (token === undefined || !/^[\x21-\x7e]{1,4096}$/.test(token) || expiresAtMs === undefined)
      throw new MigError(
        "github_unavailable",
        "GitHub's registration token came without token or expires_at",
      );
    // By GitHub's clock: an agent with a dead token would try it three times and give its VM up.
    if (expiresAtMs <= Date.now() + app.skewMs())
      throw new MigError("github_unavailable", "GitHub's registration token came expired");
    return { secret: { registration_token: token }, expiresAtMs: expiresAtMs - app.skewMs() };
  }

  /** Group 1 is the default one of every organization; repositories have no groups (runner-contract §7.2). */
  async function groupId(account: Account, name: string): Promise<number> {
    if (account.base !== "/orgs/{org}" || /^(?:default)?$/i.test(name)) return 1;
    if (/^\d{1,9}$/.test(name)) return Number(name);
    const key = `${account.name} ${name.toLowerCase()}`;
    const known = groups.get(key);
    if (known !== undefined && known.untilMs > performance.now()) return known.id;
    for (let page = 1; page <= 20; page += 1) {
      const answer = await app.call(account, "GET /actions/runner-groups", { per_page: 100, page });
      const found = listOf(answer, "runner_groups");
      for (const group of found)
        groups.set(`${account.name} ${(readText(group, "name") ?? "").toLowerCase()}`, {
          id: readNumber(group, "id") ?? 0,
          untilMs: performance.now() + groupKeepMs,
        });
      if (found.length < 100) break;
    }
    const found = groups.get(key);
    if (found !== undefined) return found.id;
    throw new MigError(
      "github_forbidden",
      `${account.name} has no runner group "${name}"; create it in its settings under Actions, or correct the pool`,
    );
  }

  /** Servers that do not know the filter list everybody: never take another's runner for this one. */
  async function findId(account: Account, runnerName: string): Promise<number | undefined> {
    const answer = await app.call(account, "GET /actions/runners", { name: runnerName, per_page: 100 });
    const own = listOf(answer, "runners").find((runner) => readText(runner, "name") === runnerName);
    return own === undefined ? undefined : readNumber(own, "id");
  }

  return {
    register(wish) {
      const account = accountOf(wish.runnerUrl);
      return wish.registration === "jit" ? registerJit(account, wish) : registerByToken(account);
    },
    async remove({ runnerUrl, runnerName, runnerId }) {
      const account = accountOf(runnerUrl);
      const id = runnerId ?? (await findId(account, runnerName));
      if (id === undefined) return "removed";
      try {
        await app.call(account, "DELETE /actions/runners/{runner_id}", { runner_id: id });
        return "removed";
      } catch (error) {
        if (!(error instanceof MigError)) throw error;
        if (error.code === "github_not_installed") return "removed"; // 404: somebody was faster
        if (error.code === "github_conflict" && /still running a job/i.test(error.message)) return "busy";
        throw error;
      }
    },
  };
}

function listOf(answer: Unknown, key: string): Unknown[] {
  const list = answer[key];
  return Array.isArray(list) ? list.map((item) => asObject(item) ?? {}) : [];
}
