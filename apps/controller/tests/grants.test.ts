import { createAppKey, type Fault, type Github, startGithub } from "@mig/sandbox";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createGithubApi } from "../src/github/api.ts";
import { createAppGrants } from "../src/github/app-grants.ts";
import type { GrantSource, Pool } from "../src/github/grant-source.ts";

/** Grants from a GitHub App, against the stand-in, which checks the JWT and answers as GitHub does. */
const key = createAppKey();
const never = new AbortController().signal;
let github: Github;
let pool: Pool;

beforeEach(async () => {
  github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
  pool = {
    id: "p",
    orgId: "acme",
    runnerUrl: `${github.webUrl}/acme`,
    runnerGroup: "default",
    labels: ["self-hosted", "linux"],
    registration: "jit",
  };
});
afterEach(async () => {
  await github.close();
});

const source = (privateKey = key.privateKeyPem): GrantSource =>
  createAppGrants(createGithubApi({ apiUrl: github.url, appId: "1234", privateKey }, never), () => pool);
const wish = (runnerName: string, registration: Pool["registration"] = "jit") => ({
  vmId: "vm-1",
  orgId: "acme",
  pool: { ...pool, registration },
  runnerName,
});

it("a JIT config makes one runner, known by its name before it connects", async () => {
  const grant = await source().issue(wish("vm-1-a"), never);
  expect(grant).toMatchObject({
    runnerName: "vm-1-a",
    runnerGroup: "default",
    labels: ["self-hosted", "linux"],
  });
  expect(Object.keys(JSON.parse(Buffer.from(grant.jitConfig ?? "", "base64").toString("utf8")))).toContain(
    ".runner",
  );
  expect(await github.runners()).toMatchObject([{ name: "vm-1-a", status: "offline", ephemeral: true }]);
});

it("a registration token comes with its expiry", async () => {
  const grant = await source().issue(wish("vm-1-a", "token"), never);
  expect(grant.registrationToken).toMatch(/^\S{10,}$/);
  expect(grant.expiresAtMs).toBeGreaterThan(Date.now() + 50 * 60_000);
});

it("a hundred VMs at once buy one installation token", async () => {
  const grants = source();
  await Promise.all(Array.from({ length: 100 }, (_, i) => grants.issue(wish(`vm-${i}`), never)));
  const bought = (await github.requests()).filter((request) => request.path.endsWith("/access_tokens"));
  expect(bought).toHaveLength(1);
});

const refusals: [
  name: string,
  credentials: { privateKey?: string },
  fault: Fault | undefined,
  code: string,
][] = [
  [
    "a key that is not the App's",
    { privateKey: createAppKey().privateKeyPem },
    undefined,
    "github_unauthorized",
  ],
  ["a key that is none", { privateKey: "-----BEGIN PRIVATE KEY-----" }, undefined, "github_unauthorized"],
  [
    "a rate limit with its hint",
    {},
    { path: "jitconfig", status: 429, headers: { "retry-after": "7" } },
    "github_rate_limited",
  ],
  [
    "a secondary limit",
    {},
    { path: "jitconfig", status: 403, headers: { "retry-after": "9" } },
    "github_rate_limited",
  ],
  [
    "a missing permission",
    {},
    { path: "jitconfig", status: 403, body: { message: "no" } },
    "github_forbidden",
  ],
  ["an App that is not installed", {}, { path: "/installation$", status: 404 }, "github_not_installed"],
  ["a name that is taken", {}, { path: "jitconfig", status: 409 }, "github_conflict"],
  ["a page of HTML", {}, { path: "jitconfig", status: 502, body: "<html>" }, "github_unavailable"],
  ["a cut connection", {}, { path: "jitconfig", drop: "before" }, "github_unavailable"],
];
it.each(refusals)("%s is told apart", async (_name, { privateKey }, fault, code) => {
  if (fault !== undefined) await github.addFault({ ...fault, times: 10 });
  const refused = await source(privateKey)
    .issue(wish("vm-1"), never)
    .catch((error: unknown) => error);
  expect(refused).toMatchObject({ name: "MigError", code });
  const hintS = Number(fault?.headers?.["retry-after"]);
  if (!Number.isNaN(hintS)) expect(refused).toMatchObject({ retryAfterMs: hintS * 1_000 });
});

it("an idle runner is let go; one that is gone already, too", async () => {
  const grants = source();
  await grants.issue(wish("vm-1-a"), never);
  const names = { orgId: "acme", poolId: "p", runnerName: "vm-1-a" };
  expect(await grants.remove(names, never)).toBe("removed");
  expect(await grants.remove(names, never)).toBe("removed");
  expect(await github.runners()).toEqual([]);
});

it("a busy runner stays", async () => {
  const grants = source();
  await grants.issue(wish("vm-1-a"), never);
  await github.addFault({
    method: "DELETE",
    path: "/actions/runners/",
    status: 422,
    body: { message: 'Bad request - Runner "vm-1-a" is still running a job"' },
  });
  expect(await grants.remove({ orgId: "acme", poolId: "p", runnerName: "vm-1-a" }, never)).toBe("busy");
});
