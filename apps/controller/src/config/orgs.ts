import { maybe } from "@mig/protocol";
import type { Problem } from "./env.ts";
import { Fields, readList } from "./fields.ts";

/** Where an organization of ours is at GitHub. */
export interface OrgConfig {
  id: string;
  /** https://github.com/ORG, or https://github.com/OWNER/REPO when its runners are one repository's. */
  github: string;
  /** The GitHub App of its pools. */
  app?: string;
}

export const orgKeys = ["id", "github", "app"] as const;

export function readOrgs(content: unknown, source: string, problems: Problem[]): OrgConfig[] {
  return readList(content, source, "{ id: acme, github: https://github.com/acme }", problems, (item, where) =>
    readOrg(item, where, problems),
  );
}

export function readOrg(content: unknown, source: string, problems: Problem[]): OrgConfig {
  const fields = new Fields(content, source, orgKeys, problems);
  const id = fields.id("id");
  if (id === undefined) fields.refuse('.id is missing: your own name for the organization, as in "acme"');
  const github = fields.url("github");
  const problem = github === undefined ? "is missing" : problemOfAccount(github);
  if (problem !== undefined)
    fields.refuse(`.github ${problem}; write https://github.com/ORG or https://github.com/OWNER/REPO`);
  return { id: id ?? "", github: github ?? "", ...maybe("app", fields.id("app")) };
}

/** GitHub Apps serve organizations and repositories; enterprises are closed to them (runner-contract §8.3). */
export function problemOfAccount(url: string): string | undefined {
  if (!URL.canParse(url)) return "is no URL";
  const { pathname, search, hash } = new URL(url);
  const parts = pathname.split("/").filter((part) => part !== "");
  if (search !== "" || hash !== "") return "has something behind the name";
  if (parts[0] === "enterprises")
    return "is an enterprise, and a GitHub App registers no runners for enterprises";
  return parts.length === 1 || parts.length === 2 ? undefined : "names no organization and no repository";
}
