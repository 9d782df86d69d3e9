import { asObject, readBoolean, readNumber, readText, type Unknown } from "@mig/protocol";
import type { Account } from "./account.ts";
import type { GithubApp } from "./app.ts";

/** A runner as GitHub lists it (runner-contract §8.3). */
export interface ListedRunner {
  id: number;
  name: string;
  /** One that has never connected is offline too. */
  isOnline: boolean;
  isBusy: boolean;
}

export interface RunnerList {
  runners: ListedRunner[];
  /** False when somebody may be missing: pages move while runners come and go, and GitHub's count is then another. */
  isComplete: boolean;
}

const perPage = 100;
/** An organization has at most ten thousand runners in a group; what is beyond this is not looked at. */
const pagesMax = 200;

/**
 * All pages, each paced as a read. Rejects with `github_rate_limited` in the middle when the pace says so, and with
 * whatever `onPage` rejects with between two pages.
 */
export async function listRunners(
  app: GithubApp,
  account: Account,
  onPage: () => Promise<void> = async () => {},
): Promise<RunnerList> {
  const found = new Map<number, ListedRunner>();
  let total = 0;
  for (let page = 1; page <= pagesMax; page += 1) {
    const answer = await app.call(account, "GET /actions/runners", { per_page: perPage, page });
    const list = Array.isArray(answer["runners"]) ? answer["runners"] : undefined;
    // An answer that is not a list says nothing about who is there.
    if (list === undefined) return { runners: [...found.values()], isComplete: false };
    total = readNumber(answer, "total_count") ?? Number.POSITIVE_INFINITY;
    for (const item of list) {
      const runner = readRunner(asObject(item) ?? {});
      if (runner !== undefined) found.set(runner.id, runner);
    }
    if (list.length < perPage) break;
    await onPage();
  }
  return { runners: [...found.values()], isComplete: found.size >= total };
}

/** One runner, now; undefined when GitHub does not know it. */
export async function findRunner(
  app: GithubApp,
  account: Account,
  runnerName: string,
): Promise<ListedRunner | undefined> {
  const answer = await app.call(account, "GET /actions/runners", { name: runnerName, per_page: perPage });
  const list = Array.isArray(answer["runners"]) ? answer["runners"] : [];
  // Servers that do not know the filter list everybody.
  return list.map((item) => readRunner(asObject(item) ?? {})).find((runner) => runner?.name === runnerName);
}

/** Without an id or a name it is nobody. One of which it is not known whether it works is taken to be at work. */
export function readRunner(item: Unknown): ListedRunner | undefined {
  const id = readNumber(item, "id");
  const name = readText(item, "name");
  if (id === undefined || !Number.isSafeInteger(id) || id <= 0 || name === undefined || name === "")
    return undefined;
  return {
    id,
    name,
    isOnline: readText(item, "status") === "online",
    isBusy: readBoolean(item, "busy") ?? true,
  };
}
