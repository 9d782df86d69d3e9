import { expect, test } from "vitest";
import type { Problem } from "./env.ts";
import { readInvocation } from "./env.ts";
import { type OidcConfig, readOidc } from "./oidc.ts";
import { Values } from "./values.ts";

function read(env: Record<string, string>, oidcRoles?: unknown): { config?: OidcConfig; told: string } {
  const invocation = { ...readInvocation([], env), oidcRoles, fileName: "mig.yaml" };
  const problems: Problem[] = [];
  const config = readOidc(new Values(invocation.values, problems), invocation);
  const told = problems.map(({ message }) => message).join("\n");
  return config === undefined ? { told } : { config, told };
}

const issuer = "https://acme.okta.example/";
const env = { MIG_OIDC_ISSUER: issuer, MIG_OIDC_AUDIENCE: "mig" };
const roles = [
  { value: "platform", role: "admin" },
  { value: 7, role: "viewer", orgs: ["acme"] },
];

test("a provider is read as it is written, the slash at the end of its name included", () => {
  expect(read(env, roles)).toEqual({
    config: {
      issuer,
      audience: "mig",
      claim: "groups",
      maxAgeMs: 12 * 3_600_000,
      roles: [
        { value: "platform", role: "admin" },
        { value: "7", role: "viewer", orgs: ["acme"] },
      ],
    },
    told: "",
  });
});

test("without a provider there is nothing, and nothing may be left of one", () => {
  expect(read({})).toEqual({ told: "" });
  expect(read({ MIG_OIDC_AUDIENCE: "mig" }).told).toBe("oidc.audience needs oidc.issuer beside it");
  expect(read({}, roles).told).toBe("mig.yaml: oidc.roles needs oidc.issuer beside it");
});

test.each<[Record<string, string>, unknown, string]>([
  [{ MIG_OIDC_ISSUER: issuer }, roles, "is the client id"],
  [{ ...env, MIG_OIDC_ISSUER: "http://idp.example" }, roles, "must begin with https://"],
  [{ ...env, MIG_OIDC_JWKS_URL: "https://u:p@idp.example/keys" }, roles, "must not hold credentials"],
  [{ ...env, MIG_OIDC_MAX_TOKEN_AGE: "1s" }, roles, "at least"],
  [env, undefined, "oidc.issuer needs oidc.roles"],
  [env, [], "oidc.issuer needs oidc.roles"],
  [env, { value: "x" }, "mig.yaml: oidc.roles is a list"],
  [env, [{ value: "x", role: "root" }], "oidc.roles[0] .role is one of viewer, operator, admin"],
  [env, [{ role: "admin" }], "oidc.roles[0] .value is missing"],
  [env, [{ value: "x", role: "admin", orgs: [] }], ".orgs is a list"],
  [env, [{ value: "x", role: "admin", orgs: "acme" }], ".orgs is a list"],
  [env, [{ value: "x", role: "admin", org: ["acme"] }], "did you mean orgs?"],
])("%j with %j is told", (written, rows, message) => {
  expect(read(written, rows).told).toContain(message);
});
