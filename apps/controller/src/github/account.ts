import { MigError } from "@mig/lifecycle";
import type { Unknown } from "@mig/protocol";

/** Whose runners they are: an organization's, or one repository's. */
export interface Account {
  /** "ORG" or "OWNER/REPO", as GitHub writes it. */
  readonly name: string;
  /** `/orgs/{org}` or `/repos/{owner}/{repo}`: the beginning of a route, in GitHub's own words. */
  readonly base: "/orgs/{org}" | "/repos/{owner}/{repo}";
  readonly parameters: Unknown;
  /** The narrowest permission that registers runners (runner-contract §8.3). */
  readonly permissions: Readonly<Record<string, string>>;
}

/** `https://github.com/ORG` or `https://github.com/OWNER/REPO`. */
export function accountOf(runnerUrl: string): Account {
  const parts = URL.canParse(runnerUrl)
    ? new URL(runnerUrl).pathname.split("/").filter((part) => part !== "")
    : [];
  const [first, second] = parts;
  // Enterprises cannot be served by a GitHub App (runner-contract §8.3).
  if (first === "enterprises")
    throw new MigError(
      "settings_invalid",
      `runner_url ${runnerUrl} is an enterprise; a GitHub App serves organizations and repositories`,
    );
  if (first !== undefined && parts.length === 1)
    return {
      name: first,
      base: "/orgs/{org}",
      parameters: { org: first },
      permissions: { organization_self_hosted_runners: "write" },
    };
  if (first !== undefined && second !== undefined && parts.length === 2)
    return {
      name: `${first}/${second}`,
      base: "/repos/{owner}/{repo}",
      parameters: { owner: first, repo: second },
      permissions: { administration: "write" },
    };
  throw new MigError("settings_invalid", `runner_url ${runnerUrl} names no organization and no repository`);
}

/** Where the REST API of the GitHub is that a runner URL belongs to (runner-contract §8.1). */
export function apiUrlOf(runnerUrl: string): string {
  const { protocol, host, hostname } = new URL(runnerUrl);
  if (hostname === "www.github.com" || hostname === "github.com") return "https://api.github.com";
  return hostname.endsWith(".ghe.com") ? `https://api.${host}` : `${protocol}//${host}/api/v3`;
}
