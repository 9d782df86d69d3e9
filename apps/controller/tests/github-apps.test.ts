import { randomUUID } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { createAppKey, type Github, startGithub } from "@mig/sandbox";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import type { AppConfig } from "../src/config/apps.ts";
import type { OrgConfig } from "../src/config/orgs.ts";
import type { PoolConfig } from "../src/config/pools.ts";
import { createAppKeys } from "../src/controller/app-keys.ts";
import { readAppKey } from "../src/github/app-jwt.ts";
import { type CheckAppSettings, checkApp, type KeyFound } from "../src/github/check-app.ts";
import type { CheckLine } from "../src/github/check-report.ts";
import { excessOf, lackingIn } from "../src/github/judge-app.ts";
import { openLab } from "./secrets-lab.ts";

/** The probe of a GitHub App, against the stand-in, which refuses as GitHub does. */
const pair = createAppKey();
const foreign = createAppKey();
const found = (pem = pair.privateKeyPem, role: KeyFound["role"] = "key"): KeyFound => ({
  role,
  reference: `file:///${role}.pem`,
  key: readAppKey(pem),
});

const groups = [
  { id: 1, name: "Default", visibility: "all" as const, allowsPublicRepositories: false },
  { id: 2, name: "closed", visibility: "selected" as const, allowsPublicRepositories: false },
  { id: 3, name: "public", visibility: "selected" as const, allowsPublicRepositories: true },
];
const exactly = { organization_self_hosted_runners: "write", metadata: "read" };

async function standIn(options: Parameters<typeof startGithub>[0] = {}): Promise<Github> {
  const github = await startGithub({
    publicKeyPem: pair.publicKeyPem,
    appId: 1234,
    runnerGroups: groups,
    permissions: exactly,
    ...options,
  });
  onTestFinished(() => github.close());
  return github;
}

const poolAt = (github: Github, more: Partial<PoolConfig> = {}): PoolConfig => ({
  id: "linux",
  orgId: "acme",
  runnerUrl: `${github.webUrl}/acme`,
  runnerGroup: "closed",
  labels: ["linux"],
  registration: "jit",
  legacyAgents: false,
  reuse: false,
  allowPublic: false,
  ...more,
});

async function probe(
  github: Github,
  more: Partial<Omit<CheckAppSettings, "app">> & { app?: Partial<AppConfig> } = {},
): Promise<{ ok: boolean; wrong: string[]; lines: CheckLine[] }> {
  const { app, ...rest } = more;
  const report = await checkApp({
    app: { id: "acme", apiUrl: github.url, issuer: "1234", key: "file:///key.pem", ...app },
    keys: [found()],
    orgs: [],
    pools: [poolAt(github)],
    groupPolicy: "warn",
    admit: async () => {},
    signal: new AbortController().signal,
    ...rest,
  });
  const wrong = report.checks
    .filter((line) => !line.ok)
    .map(({ required, check, problem }) => `${required ? "must" : "should"} ${check}: ${problem}`);
  for (const line of report.checks) {
    // Whoever reads a problem is told what to do.
    expect([line.problem === null, line.remedy === null]).toEqual([line.ok, line.ok]);
  }
  expect(JSON.stringify(report)).not.toContain("PRIVATE KEY");
  return { ok: report.ok, wrong, lines: report.checks };
}

describe("checkApp", () => {
  it("says that all is well, with what it found", async () => {
    const { ok, wrong, lines } = await probe(await standIn());
    expect([ok, wrong]).toEqual([true, []]);
    const told = Object.fromEntries(lines.map(({ check, found: what }) => [check, what]));
    expect(told).toEqual({
      key: `SHA256:${readAppKey(pair.privateKeyPem).fingerprint}`,
      app: expect.any(String),
      clock: expect.stringMatching(/^-?\d+ s$/),
      permissions: "organization_self_hosted_runners: write",
      installation: "installation 1",
      runner_group: "selected repositories",
      rate_limit: expect.stringMatching(/ left$/),
      version: "GitHub.com",
    });
  });

  it("names a key that GitHub does not take, and asks nothing more", async () => {
    const github = await standIn();
    const { ok, wrong } = await probe(github, { keys: [found(foreign.privateKeyPem)] });
    expect([ok, wrong]).toEqual([false, [expect.stringMatching(/^must app: .*401/)]]);
    expect((await github.requests()).map(({ path }) => path)).toEqual(["/app"]);
  });

  it("a second key that GitHub does not take is advice, and so is one that cannot be read", async () => {
    const missing: KeyFound = {
      role: "previous_key",
      reference: "vault://a/b#c",
      problem: "Vault is sealed",
    };
    const { ok, wrong } = await probe(await standIn(), {
      keys: [found(), found(foreign.privateKeyPem, "previous_key"), missing],
    });
    expect([ok, wrong]).toEqual([
      true,
      [expect.stringMatching(/^should app/), "should key: Vault is sealed"],
    ]);
  });

  it("a second key that works does not make up for a first that cannot be read", async () => {
    const missing: KeyFound = { role: "key", reference: "vault://a/b#c", problem: "Vault is sealed" };
    const { ok, wrong } = await probe(await standIn(), {
      keys: [missing, found(pair.privateKeyPem, "previous_key")],
    });
    expect([ok, wrong]).toEqual([false, ["must key: Vault is sealed"]]);
  });

  it("another App than the settings say", async () => {
    const { wrong } = await probe(await standIn(), { app: { issuer: "77" } });
    expect(wrong).toEqual([expect.stringMatching(/^must app: .*(?:404|Integration)/)]);
  });

  it("a client id is as good as the number", async () => {
    const github = await standIn({ clientId: "Iv23test" });
    expect((await probe(github, { app: { issuer: "Iv23test" } })).ok).toBe(true);
  });

  it("too few permissions, and too many", async () => {
    const few = await probe(await standIn({ permissions: { metadata: "read" } }));
    expect(few.wrong).toEqual([
      "must permissions: the App lacks organization_self_hosted_runners: write",
      "must installation: the installation lacks organization_self_hosted_runners: write",
    ]);
    const many = await probe(
      await standIn({ permissions: { ...exactly, contents: "write", secrets: "read" } }),
    );
    expect([many.ok, many.wrong]).toEqual([
      true,
      ["should permissions: the App may do more than register runners: contents: write, secrets: read"],
    ]);
  });

  it("where it is not installed, and where it is suspended", async () => {
    const github = await standIn({ installations: { acme: 5 } });
    const other: OrgConfig = { id: "other", github: `${github.webUrl}/other`, app: "acme" };
    const { wrong } = await probe(github, { orgs: [other] });
    expect(wrong).toEqual(["must installation: the App is not installed for other"]);
    await github.suspend("acme", true);
    expect((await probe(github)).wrong).toEqual(["must installation: the installation is suspended"]);
  });

  it("an installation that the settings name wrongly", async () => {
    const { wrong } = await probe(await standIn({ installations: { acme: 5 } }), {
      app: { installationId: 6 },
    });
    expect(wrong).toEqual(["must installation: it is installation 5, and the settings say 6"]);
  });

  it.each([
    ["none", "must", /no runner group "none"/],
    ["Default", "should", /every repository/],
    ["default", "should", /every repository/],
    ["1", "should", /every repository/],
    ["public", "should", /public repositories/],
  ])("the runner group %s", async (runnerGroup, word, told) => {
    const github = await standIn();
    const { wrong } = await probe(github, { pools: [poolAt(github, { runnerGroup })] });
    expect(wrong).toEqual([expect.stringMatching(told)]);
    expect(wrong[0]).toMatch(new RegExp(`^${word} runner_group`));
  });

  it("is strict about groups when told, and lets a pool allow the public", async () => {
    const github = await standIn();
    const pools = [poolAt(github, { runnerGroup: "public" })];
    expect((await probe(github, { pools, groupPolicy: "deny" })).ok).toBe(false);
    const allowing = [poolAt(github, { runnerGroup: "3", allowPublic: true })];
    expect((await probe(github, { pools: allowing, groupPolicy: "deny" })).wrong).toEqual([]);
    // Two pools share the group: the stricter one counts.
    const both = [...pools, poolAt(github, { id: "two", runnerGroup: "public", allowPublic: true })];
    expect((await probe(github, { pools: both, groupPolicy: "deny" })).ok).toBe(false);
  });

  it("a repository's pool takes another permission, and no group", async () => {
    const github = await standIn({ permissions: { administration: "write", metadata: "read" } });
    const pools = [poolAt(github, { runnerUrl: `${github.webUrl}/acme/app` })];
    const { wrong, lines } = await probe(github, { pools });
    expect(wrong).toEqual([]);
    expect(lines.some(({ check }) => check === "runner_group")).toBe(false);
  });

  it.each([600_000, -600_000, 3 * 86_400_000])(
    "a clock that is %i ms off is told, and overcome",
    async (clockSkewMs) => {
      const { ok, wrong } = await probe(await standIn({ clockSkewMs }));
      expect([ok, wrong]).toEqual([true, [expect.stringMatching(/^should clock: GitHub's clock is/)]]);
    },
  );

  it("says which Enterprise Server it is", async () => {
    const { lines } = await probe(await standIn({ enterpriseVersion: "3.17.2" }));
    expect(lines.find(({ check }) => check === "version")?.found).toBe("Enterprise Server 3.17.2");
  });

  it("says when nothing uses the App, and when it has no key", async () => {
    const github = await standIn();
    expect((await probe(github, { pools: [] })).wrong).toEqual([expect.stringMatching(/^should pools/)]);
    expect((await probe(github, { keys: [] })).wrong).toEqual(["must key: the App has no key"]);
  });

  it("ends in time with whatever GitHub does not answer", async () => {
    const github = await standIn();
    await github.addFault({ path: "/installation$", hang: true, times: 10 });
    const { wrong } = await probe(github, { timeoutMs: 300 });
    expect(wrong[0]).toMatch(/^must installation: GitHub did not answer/);
    await github.clearFaults();
    await github.addFault({ path: ".*", status: 502, body: "<html>bad gateway</html>", times: 10 });
    expect((await probe(github)).wrong[0]).toMatch(/^must app: .*502/);
  });
});

describe("permissions", () => {
  const level = fc.constantFrom("read", "write", "admin");
  const set = fc.dictionary(
    fc.constantFrom("contents", "actions", "metadata", "administration", "secrets"),
    level,
  );
  it("nothing lacks and nothing is too much exactly when it is what is needed", () => {
    fc.assert(
      fc.property(set, (granted) => {
        expect(lackingIn(granted, granted)).toEqual([]);
        expect(excessOf(granted, granted)).toEqual([]);
        expect(lackingIn({}, granted)).toHaveLength(Object.keys(granted).length);
        for (const word of excessOf(granted, {}))
          expect(word).not.toMatch(/^metadata: read|^actions: (?:read|write)$/);
      }),
    );
  });
});

describe("the keys of an App", () => {
  async function lab(text: string) {
    const path = join(tmpdir(), `mig-key-${randomUUID()}.pem`);
    await writeFile(path, text, { mode: 0o600 });
    onTestFinished(() => rm(path, { force: true }));
    const { secrets, alarms, lines } = await openLab({ rules: { refreshGapMs: 0 } });
    onTestFinished(() => secrets.close());
    return { path, secrets, alarms, lines, reference: `file://${path}`, keys: createAppKeys(secrets) };
  }
  const app = (more: Partial<AppConfig>): AppConfig => ({
    id: "a",
    apiUrl: "https://api.github.com",
    issuer: "1",
    ...more,
  });
  const fingerprint = (pem: string): string => readAppKey(pem).fingerprint;

  it("a wrong new key never replaces a good one, and is told; a good new one goes before the old", async () => {
    const { path, secrets, alarms, lines, reference, keys } = await lab(pair.privateKeyPem);
    const used = async () => (await keys.keysOf(app({ key: reference }))).map((key) => key.fingerprint);
    expect(await used()).toEqual([fingerprint(pair.privateKeyPem)]);
    await writeFile(path, "-----BEGIN PRIVATE KEY-----\nnot one\n-----END PRIVATE KEY-----\n");
    await expect(secrets.refresh(reference)).rejects.toMatchObject({ code: "secret_invalid" });
    expect(await used()).toEqual([fingerprint(pair.privateKeyPem)]);
    await waitFor("the alarm", () => alarms.some(({ code }) => code === "secret_refused"));
    await writeFile(path, foreign.privateKeyPem);
    await secrets.refresh(reference);
    expect(await used()).toEqual([fingerprint(foreign.privateKeyPem), fingerprint(pair.privateKeyPem)]);
    expect(lines.join("\n")).not.toContain(pair.privateKeyPem.split("\n")[3]);
  });

  it("the second reference stands by, and serves alone when the first cannot be had", async () => {
    const { reference, keys } = await lab(pair.privateKeyPem);
    const both = app({ key: "file:///nowhere.pem", previousKey: reference });
    expect((await keys.keysOf(both)).map((key) => key.fingerprint)).toEqual([
      fingerprint(pair.privateKeyPem),
    ]);
    expect((await keys.find(both)).map(({ role, problem }) => [role, problem === undefined])).toEqual([
      ["key", false],
      ["previous_key", true],
    ]);
    await expect(keys.keysOf(app({ key: "file:///nowhere.pem" }))).rejects.toMatchObject({
      name: "MigError",
    });
    const twice = app({ key: reference, previousKey: reference });
    expect(await keys.keysOf(twice)).toHaveLength(1);
  });
});
