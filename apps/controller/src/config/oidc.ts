import { type OperatorRole, operatorRoles } from "@mig/lifecycle";
import { isId, maybe } from "@mig/protocol";
import type { Invocation, Problem } from "./env.ts";
import { Fields } from "./fields.ts";
import type { SettingName } from "./settings.ts";
import { problemOfUrl, type Values } from "./values.ts";

/** The OpenID provider whose tokens operators may bring in place of an API key. */
export interface OidcConfig {
  /** Exactly as the provider writes it, a slash at the end included. */
  readonly issuer: string;
  readonly audience: string;
  /** Undefined: the provider's discovery document says where its keys are. */
  readonly keysUrl?: string;
  /** What the rows of `roles` are compared with. */
  readonly claim: string;
  readonly maxAgeMs: number;
  readonly roles: readonly OidcRoleRow[];
}

export interface OidcRoleRow {
  readonly value: string;
  readonly role: OperatorRole;
  /** Undefined: all organizations. */
  readonly orgs?: readonly string[];
}

export const oidcRoleKeys = ["value", "role", "orgs"] as const;

const example = "{ value: platform-team, role: operator, orgs: [acme] }";

/** Undefined without `oidc.issuer`: then there is no provider. */
export function readOidc(values: Values, { oidcRoles, fileName }: Invocation): OidcConfig | undefined {
  const issuer = urlAsWritten(values, "oidc.issuer");
  const audience = values.text("oidc.audience");
  const keysUrl = urlAsWritten(values, "oidc.jwks_url");
  const claim = values.text("oidc.claim") ?? "";
  const maxAgeMs = values.durationMs("oidc.max_token_age", { minMs: 60_000 });
  const source = `${fileName}: oidc.roles`;
  const roles = readRows(oidcRoles, source, values.problems);
  if (issuer === undefined) {
    const lonely = (["oidc.audience", "oidc.jwks_url"] as const).find((name) => values.isWritten(name));
    const what = lonely ?? (roles.length > 0 ? source : undefined);
    if (what !== undefined) values.problems.push({ message: `${what} needs oidc.issuer beside it` });
    return undefined;
  }
  if (audience === undefined)
    values.refuse("oidc.audience", "is the client id that the provider writes into tokens for MIG");
  if (roles.length === 0)
    values.problems.push({
      message: `oidc.issuer needs oidc.roles in the file of --config, or its tokens are good for nothing: "oidc: { roles: [${example}] }"`,
    });
  return { issuer, audience: audience ?? "", ...maybe("keysUrl", keysUrl), claim, maxAgeMs, roles };
}

function urlAsWritten(values: Values, name: SettingName): string | undefined {
  const text = values.text(name);
  const problem = text === undefined ? undefined : problemOfUrl(text);
  if (problem !== undefined) values.refuse(name, problem);
  return text;
}

function readRows(content: unknown, source: string, problems: Problem[]): OidcRoleRow[] {
  if (content === undefined || content === null) return [];
  if (!Array.isArray(content)) {
    problems.push({ message: `${source} is a list, as in "roles: [${example}]"` });
    return [];
  }
  return content.map((item, i) => readRow(item, `${source}[${i}]`, problems));
}

function readRow(content: unknown, source: string, problems: Problem[]): OidcRoleRow {
  const fields = new Fields(content, source, oidcRoleKeys, problems);
  const value = fields.text("value") ?? "";
  if (value === "") fields.refuse(".value is missing: what the claim says of those who have the role");
  const said = fields.text("role");
  const role = operatorRoles.find((one) => one === said);
  if (role === undefined) fields.refuse(`.role is one of ${operatorRoles.join(", ")}`);
  return { value, role: role ?? "viewer", ...maybe("orgs", readOrgs(fields)) };
}

/** An empty list would read like "none" and like "all"; it is neither. */
function readOrgs(fields: Fields): string[] | undefined {
  const content = fields.raw("orgs");
  if (content === undefined) return undefined;
  const orgs = Array.isArray(content) ? content.map(String) : [];
  if (orgs.length === 0 || !orgs.every(isId))
    fields.refuse(".orgs is a list of ids of organizations; without it the role is for all of them");
  return orgs;
}
