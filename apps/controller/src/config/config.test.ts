import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { nearest } from "@mig/kit";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { buildConfig, type Outcome } from "./config.ts";
import { readInvocation } from "./env.ts";
import { flagOf, settingNames, variableOf } from "./settings.ts";
import { showHelp, showProblems, showSettings } from "./show.ts";
import { appServing, isSameGithub } from "./who-serves.ts";

const directory = mkdtempSync(join(tmpdir(), "mig-config-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

function read(argv: string[], env: Record<string, string> = {}): Outcome {
  return buildConfig(readInvocation(argv, env));
}

function configOf(argv: string[], env: Record<string, string> = {}) {
  const outcome = read(argv, env);
  if (!outcome.ok) throw new Error(showProblems(outcome.problems));
  return outcome.config;
}

function problemsOf(argv: string[], env: Record<string, string> = {}): string {
  const outcome = read(argv, env);
  return outcome.ok ? "" : showProblems(outcome.problems);
}

const agentToken = file("agent.token", "agent-token-0123456789\n");
const operatorToken = file("operator.token", "operator-token-0123456789\n");
const appKey = file(
  "app.pem",
  "-----BEGIN RSA PRIVATE KEY-----\nnot really\n-----END RSA PRIVATE KEY-----\n",
);
const normal = [
  ...["--agent-token-file", agentToken, "--operator-token-file", operatorToken],
  ...["--github-app-id", "7", "--github-private-key-file", appKey, "--runner-url", "https://github.com/acme"],
];

describe("where a setting comes from", () => {
  const yaml = file(
    "order.yaml",
    "heartbeat_interval: 1s\nlost_after: 3m\nlabels: [a, b]\ngithub:\n  api_url: http://127.0.0.1:1/\n",
  );

  test("a flag wins over its variable, that over the file, that over the default", () => {
    expect(configOf(["--sample"]).pace.heartbeatIntervalMs).toBe(15_000);
    expect(configOf(["--sample", "--config", yaml]).pace.heartbeatIntervalMs).toBe(1_000);
    const env = { MIG_HEARTBEAT_INTERVAL: "2s", MIG_CONFIG: yaml };
    expect(configOf(["--sample"], env).pace).toMatchObject({
      heartbeatIntervalMs: 2_000,
      lostAfterMs: 180_000,
    });
    expect(configOf(["--sample", "--heartbeat-interval=4s"], env).pace.heartbeatIntervalMs).toBe(4_000);
  });

  test("lists and groups of the file mean what the flags mean", () => {
    const config = configOf([...normal, "--config", yaml]);
    expect(config.defaultPool?.labels).toEqual(["a", "b"]);
    expect(config.github?.apiUrl).toBe("http://127.0.0.1:1");
  });

  test("DATABASE_URL is understood, and an empty variable is an unset one", () => {
    const config = configOf(["--sample"], { DATABASE_URL: "postgres://u:p4ssw0rd@h/d", MIG_LISTEN: "" });
    expect(config.databaseUrl?.reveal()).toBe("postgres://u:p4ssw0rd@h/d");
    expect(config.listen).toEqual({ host: "127.0.0.1", port: 8080 });
  });

  test("the grace after a start follows unreachable_after unless it is set", () => {
    expect(configOf(["--sample", "--unreachable-after", "50s"]).startupGraceMs).toBe(50_000);
    expect(configOf(["--sample", "--startup-grace", "0"]).startupGraceMs).toBe(0);
  });

  test("the second port can be off", () => {
    expect(configOf(["--sample", "--grpc-listen", "off"]).grpcListen).toBeUndefined();
  });
});

describe("pools", () => {
  test("take from the default pool what they leave out", () => {
    const path = file(
      "pools.yaml",
      "default_pool: { runner_url: https://github.com/acme, labels: [x] }\npools:\n  - { id: p1 }\n  - { id: p2, org_id: o2, labels: 'y,z', registration: token, legacy_agents: true, reuse: true }\n",
    );
    const { pools } = configOf([...normal, "--config", path]);
    expect(pools).toEqual([
      {
        id: "p1",
        orgId: "default",
        runnerUrl: "https://github.com/acme",
        runnerGroup: "default",
        labels: ["x"],
        registration: "jit",
        legacyAgents: false,
        reuse: false,
        allowPublic: false,
      },
      {
        id: "p2",
        orgId: "o2",
        runnerUrl: "https://github.com/acme",
        runnerGroup: "default",
        labels: ["y", "z"],
        registration: "token",
        legacyAgents: true,
        reuse: true,
        allowPublic: false,
      },
    ]);
  });

  test("pin the runner's version for their VMs, or hear what is wrong with the pin", () => {
    const sum = "A".repeat(64);
    const pin = (runner: string): string =>
      file("pin.yaml", `pools: [{ id: p1, runner_url: "https://github.com/acme", runner: ${runner} }]\n`);
    const good = configOf([
      "--sample",
      "--config",
      pin(`{ version: v2.336.0, sha256: { linux-x64: ${sum} } }`),
    ]);
    expect(good.pools[0]?.runner).toEqual({ version: "2.336.0", sha256: { "linux-x64": "a".repeat(64) } });
    for (const [bad, told] of [
      ["2.336.0", ".runner is { version"],
      ["{ version: '2' }", '.runner.version "2" is no version'],
      ["{ version: 2.336.0, sha256: { linux-x64: 12 } }", ".runner.sha256.linux-x64 is not 64"],
      ["{ version: 2.336.0, sha256: { beos: x } }", '.runner.sha256 names a platform "beos"'],
      ["{ version: 2.336.0, url: x }", '.runner has a key "url"'],
      ["{ version: 2.336.0, download_url: ftp://x }", ".runner.download_url is no http"],
    ] as const)
      expect(problemsOf(["--sample", "--config", pin(bad)])).toContain(told);
  });

  test("without any of them nobody can register, which is said", () => {
    const without = normal.slice(0, -2);
    expect(problemsOf(without)).toContain("a list of pools");
  });
});

describe("several GitHub Apps, organizations and pools", () => {
  const tokens = normal.slice(0, 4);
  const several = `
github:
  apps:
    - { id: acme, client_id: Iv23liAcme, key: "vault://secret/mig/acme#private_key", pace: { start: 60, max: 120 } }
    - { id: ghes, api_url: "https://ghes.example/api/v3", app_id: 7, signer: "vault-transit://transit/ghes", installation_id: 9 }
    - { id: spare, app_id: 8, key: "env://SPARE_KEY", previous_key: "file:///etc/mig/old.pem" }
orgs:
  - { id: acme, github: "https://github.com/acme/", app: acme }
  - { id: intern, github: "https://ghes.example/intern" }
pools:
  - { id: linux, org_id: acme }
  - { id: app, org_id: acme, runner_url: "https://github.com/acme/app", app: spare, allow_public: true, leftover: report }
  - { id: inside, org_id: intern, runner_group: 7 }
secrets:
  allow_env: true
  master_key: file:///etc/mig/master.key
  vault: { address: "https://vault.example:8200", token: "file:///run/vault/token", namespace: team }
  aws: { region: eu-west-1 }
`;

  test("are read with what follows from each other", () => {
    const config = configOf([...tokens, "--config", file("several.yaml", several)], { SPARE_KEY: "k" });
    expect(config.github).toBeUndefined();
    expect(config.apps).toEqual([
      {
        id: "acme",
        apiUrl: "https://api.github.com",
        issuer: "Iv23liAcme",
        key: "vault://secret/mig/acme#private_key",
        pace: { start: 60, max: 120 },
      },
      {
        id: "ghes",
        apiUrl: "https://ghes.example/api/v3",
        issuer: "7",
        signer: "vault-transit://transit/ghes",
        installationId: 9,
      },
      {
        id: "spare",
        apiUrl: "https://api.github.com",
        issuer: "8",
        key: "env://SPARE_KEY",
        previousKey: "file:///etc/mig/old.pem",
      },
    ]);
    const served = config.pools.map((pool) => [
      pool.id,
      pool.runnerUrl,
      pool.runnerGroup,
      appServing(pool, config.apps, config.orgs),
    ]);
    expect(served).toEqual([
      ["linux", "https://github.com/acme", "default", { app: "acme" }],
      ["app", "https://github.com/acme/app", "default", { app: "spare" }],
      ["inside", "https://ghes.example/intern", "7", { app: "ghes" }],
    ]);
    expect(config.pools.map(({ allowPublic, leftover }) => [allowPublic, leftover])).toEqual([
      [false, undefined],
      [true, "report"],
      [false, undefined],
    ]);
    expect(config.secrets).toMatchObject({
      masterKey: "file:///etc/mig/master.key",
      env: { isAllowed: true, values: { SPARE_KEY: "k" } },
      vault: { address: "https://vault.example:8200", namespace: "team", login: { method: "token" } },
      aws: { region: "eu-west-1" },
    });
  });

  test("the single form is one App more, with its key by reference", () => {
    const config = configOf(normal);
    expect(config.apps).toEqual([
      {
        id: "default",
        apiUrl: "https://api.github.com",
        issuer: "7",
        key: `file://${appKey}`,
        servesAll: true,
      },
    ]);
  });

  test("empty lists mean that they are set up over the API", () => {
    const config = configOf([...tokens, "--config", file("api.yaml", "github: { apps: [] }\npools: []\n")]);
    expect([config.apps, config.pools, config.defaultPool, config.poolBase.registration]).toEqual([
      [],
      [],
      undefined,
      "jit",
    ]);
  });

  test("a pool that says nowhere where it registers does not do so at the address for trials", () => {
    const told = problemsOf([...normal.slice(0, -2), "--config", file("nowhere.yaml", "pools: [{ id: p }]")]);
    expect(told).toContain("pools[0] .runner_url is missing");
  });

  test("everything that is wrong with them is told at once", () => {
    const bad = `
github:
  apps:
    - { id: a, app_id: 1, key: "valut://x/y#z", keyy: 1 }
    - { id: a, app_id: zero, key: "-----BEGIN PRIVATE KEY-----", signer: "file:///x" }
    - { api_url: "http://far.example", pace: { start: 9, max: 3, min: 1 } }
    - 7
orgs: [{ id: acme, github: "https://github.com/enterprises/x", app: nobody }]
pools: [{ id: p, runner_url: "https://github.com/acme", app: nobody }, { id: q, runner_url: "https://ghes.example/acme" }]
secrets: { vault: { token: "s.123456" } }
`;
    const told = problemsOf([...tokens, "--config", file("wrong.yaml", bad)]);
    for (const part of [
      'wrong.yaml: github.apps[0] has a key "keyy" that is not known; did you mean key?',
      "github.apps[0] .key is a reference that begins with vault://, gcpsm://",
      "did you mean vault://?",
      "github.apps[1] .app_id is a whole number",
      "github.apps[1] .key is a reference",
      "github.apps[1] .signer is a reference that begins with vault-transit://",
      'github.apps: the id "a" is there twice',
      "github.apps[2] .id is missing",
      "github.apps[2] .app_id or .client_id is missing",
      "github.apps[2] .key is missing",
      "github.apps[2] .api_url must begin with https://",
      "github.apps[2] .pace .start is the pace at first",
      'github.apps[2] .pace has a key "min"',
      "github.apps[3] holds the keys id, api_url",
      "orgs[0] .github is an enterprise",
      'orgs[0] .app names a GitHub App "nobody"',
      'pools[0] "p" is to be served by the GitHub App "nobody"',
      'pools[1] "q" registers at https://ghes.example/acme, and no GitHub App is of that GitHub',
      "secrets.vault.token is no reference to a secret",
    ])
      expect(told).toContain(part);
    // What looks like a secret is not repeated.
    expect(told).not.toContain("s.123456");
    expect(told).not.toContain("BEGIN PRIVATE KEY");
  });

  test.each([
    ["github: { app_id: 1, apps: [{ id: a, app_id: 2, key: 'env://K' }] }", "github.app_id"],
    ["github: { apps: {} }", "github.apps is a list"],
    ["github: { aps: [] }", "did you mean github.apps?"],
    ["orgs: 1", "orgs is a list"],
    ["pools: [{ id: p, org_id: nobody, runner_url: '' }]", ".runner_url is missing"],
    ["secrets: { vault: { adress: x } }", "did you mean secrets.vault.address?"],
    ["secrets: { vault: { address: 'https://v' } }", "says how to log in to Vault"],
    ["secrets: { vault: { role: r } }", "needs secrets.vault.address"],
    [
      "secrets: { vault: { address: 'https://v', token: 'file:///t', role: r } }",
      "excludes secrets.vault.token",
    ],
    ["secrets: { vault: 1 }", "holds further keys"],
    [
      "github: { apps: [{ id: a, app_id: 1, key: 'env://K' }, { id: b, app_id: 2, key: 'env://L' }] }\npools: [{ id: p, runner_url: 'https://github.com/x' }]",
      "could be served by several GitHub Apps",
    ],
    [
      "github: { apps: [{ id: a, app_id: 1, key: 'env://K' }] }\npools: [{ id: p, app: a, runner_url: 'https://x.ghe.com/x' }]",
      "that is another GitHub",
    ],
  ])("%s → %s", (content, part) => {
    expect(problemsOf(["--dev", "--config", file("some.yaml", content)])).toContain(part);
  });

  test.each([
    ["https://api.github.com", "https://github.com/acme", true],
    ["https://api.github.com", "https://www.github.com/acme", true],
    ["https://api.acme.ghe.com", "https://acme.ghe.com/org", true],
    ["https://ghes.example/api/v3", "https://ghes.example/org", true],
    ["https://ghes.example:8443/api/v3", "https://ghes.example:8443/org", true],
    ["https://ghes.example/api/v3", "https://github.com/org", false],
    ["https://api.github.com", "https://github.com.evil.example/acme", false],
    ["https://api.github.com", "https://acme.ghe.com/org", false],
    ["https://api.github.com", "nothing", false],
  ])("%s is of %s: %s", (api, web, is) => {
    expect(isSameGithub(api, web)).toBe(is);
  });

  test("whatever is written, it is told and nothing is thrown", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.jsonValue({ maxDepth: 3 }), (apps, orgs) => {
        const content = JSON.stringify({ github: { apps }, orgs, pools: orgs });
        const outcome = read(["--dev", "--config", file("any.yaml", content)]);
        if (!outcome.ok) expect(outcome.problems.length).toBeGreaterThan(0);
      }),
      { numRuns: 200 },
    );
  });
});

describe("what is wrong is told at once, with the source and the remedy", () => {
  test("several mistakes of several sources", () => {
    const yaml = file(
      "bad.yaml",
      "lost_afer: 3m\ngithub: { app_idd: 1 }\npools:\n  - { id: ../x, labels: [-rf, 'a b'], registration: jitt, reuse: 1, lables: [] }\n",
    );
    const told = problemsOf(["--sample", "--lisen", "x", "--config", yaml, "--command-expiry", "5"], {
      MIG_LISTEN: "nowhere",
      MIG_LOST_AFTER: "1s",
    });
    for (const part of [
      "--lisen is not a flag of mig-controller; did you mean --listen?",
      "bad.yaml: lost_afer is not a setting; did you mean lost_after?",
      "bad.yaml: github.app_idd is not a setting; did you mean github.app_id?",
      'command_expiry "5" (--command-expiry): it needs a unit; write 5s',
      'listen "nowhere" (MIG_LISTEN): it must be HOST:PORT',
      'lost_after "1s" (MIG_LOST_AFTER): it must be longer than unreachable_after',
      'pools[0] has a key "lables" that is not known; did you mean labels?',
      "pools[0] .id is missing or not an id",
      "pools[0] .registration is jit or token",
      "pools[0] .reuse is true or false",
      'pools[0] .labels hold "-rf"',
    ]) {
      expect(told).toContain(part);
    }
    expect(told).toContain("11 settings are wrong");
  });

  test.each([
    [["--sample", "--listen", "0.0.0.0:8080"], "sample mode listens on loopback only"],
    [["--dev", "--grpc-listen", "10.0.0.1:1"], "dev mode listens on loopback only"],
    [["--sample", "--dev"], "excludes --sample"],
    [["--sample", "--listen", "off"], "cannot be off"],
    [["--sample", "--listen", "127.0.0.1:70000"], "must be HOST:PORT"],
    [["--sample", "--runner-url", "file:///etc"], "must be a URL"],
    [["--sample", "--runner-url", "https://u:p@github.com/x"], "must not hold credentials"],
    [["--sample", "--runner-url", "http://github.com/x"], "must begin with https://"],
    [["--sample", "--database-url", "mysql://x"], "must begin with postgres://"],
    [["--sample", "--heartbeat-interval", "0"], "must be at least 100ms"],
    [["--sample", "--heartbeat-interval", "1e9h"], "must be a duration"],
    [["--sample", "--log-level", "loud"], "must be one of debug, info, warn, error"],
    [["--sample", "--labels", "a,-b"], "no leading"],
    [["--sample", "--config", "nowhere.yaml"], "cannot be read"],
    [["--sample", "--config"], "--config needs a value"],
    [["serve"], "is not a command"],
    [["--agent-token-file", agentToken, "--operator-token-file", agentToken], "another token"],
    [["--agent-token-file", join(directory, "none")], "cannot be read: ENOENT"],
    [["--agent-token-file", directory], "must be a file"],
    [[], "github.app_id is missing"],
  ])("%j → %s", (argv, part) => {
    expect(problemsOf(argv)).toContain(part);
  });

  test.each([
    ["a: [", "is not valid YAML"],
    ["listen: x\nlisten: y", "is not valid YAML"],
    ["f: !!js/function 'x'", "is not valid YAML"],
    ["- a", "holds no keys"],
    ["listen: { a: 1 }", "is one value"],
    ["github: 1", "holds further keys"],
    ["pools: {}", "pools is a list"],
    ["pools: [{ id: a }, { id: a }]", "is there twice"],
  ])("the file %j → %s", (content, part) => {
    expect(problemsOf(["--sample", "--config", file("one.yaml", content)])).toContain(part);
  });

  test("a token that no header can carry is refused", () => {
    const file = join(directory, "spaced");
    writeFileSync(file, "two words that are long enough");
    expect(problemsOf(["--agent-token-file", file])).toContain("visible ASCII");
  });

  test("a URL that is refused for its credentials is not repeated with them", () => {
    const told = problemsOf(["--runner-url", "https://me:hunter2@github.com/x"]);
    expect(told).toContain("https://…@github.com/x");
    expect(told).not.toContain("hunter2");
  });

  test("a secret is in no message", () => {
    expect(problemsOf(["--sample", "--database-url", "hunter2-hunter2"])).not.toContain("hunter2");
  });
});

describe("what is shown", () => {
  test("help names every flag, its variable and its default", () => {
    const help = showHelp();
    for (const name of settingNames) {
      expect(help).toContain(`${flagOf(name)} `.trimEnd());
      expect(help).toContain(variableOf(name));
    }
    expect(help).toContain("default 127.0.0.1:8080");
  });

  test("the settings in effect name their sources and hold no secret", () => {
    const outcome = read(["--sample", "--registration-token", "very-secret-token"], { MIG_LOST_AFTER: "4m" });
    const text = showSettings(outcome.effective, {}, false);
    expect(text).toMatch(/^lost_after +4m {2}\(MIG_LOST_AFTER\)$/m);
    expect(text).not.toContain("very-secret-token");
    const json = JSON.parse(showSettings(outcome.effective, {}, true));
    expect(json.settings).toContainEqual({
      name: "registration_token",
      value: "[secret]",
      source: "--registration-token",
    });
  });

  test("a secret prints as nothing", () => {
    const { tokens } = configOf(normal);
    expect(`${tokens?.agent} ${JSON.stringify(tokens)} ${inspect(tokens)}`).not.toContain("0123456789");
    expect(tokens?.agent?.matches("agent-token-0123456789")).toBe(true);
    expect(tokens?.agent?.matches("agent-token-012345678")).toBe(false);
  });

  test("nearest gives no far-fetched guess", () => {
    expect(nearest("lables", ["labels", "listen"])).toBe("labels");
    expect(nearest("zzzzzz", ["labels", "listen"])).toBeUndefined();
  });
});

describe("nats", () => {
  const seed = file("account.seed", `SA${"A".repeat(56)}\n`);
  test.each([
    [
      ["--nats-prefix", "x", "--nats-account-seed-file", seed],
      "nats.account_seed_file needs nats.url beside it",
    ],
    [["--nats-url", "http://127.0.0.1:4222"], "begins with tls:// or nats://"],
    [["--nats-url", "nats://nats.example:4222"], "tls:// unless it is this machine"],
    [["--nats-url", "nats://me:secret-word@127.0.0.1:4222"], "must not hold credentials"],
    [["--nats-url", "nats://127.0.0.1:4222", "--nats-prefix", "a.b"], "is one word of small letters"],
    [["--nats-url", "nats://127.0.0.1:4222", "--nats-account-seed-file", agentToken], "SA and 56 characters"],
    [["--nats-url", "nats://127.0.0.1:4222", "--nats-account", "AB"], "is the public key of an account"],
  ])("%j is refused", (argv, problem) => {
    const told = problemsOf(["--sample", ...argv]);
    expect(told).toContain(problem);
    expect(told).not.toContain("secret-word");
  });

  test("agents are told the controller's servers, or those that are written for them", () => {
    const of = (...argv: string[]) =>
      configOf(["--sample", "--nats-url", "nats://127.0.0.1:4222", ...argv]).nats;
    expect(of()?.agentUrls).toEqual(["nats://127.0.0.1:4222"]);
    expect(of("--nats-agent-url", "tls://a:1,tls://b:2")?.agentUrls).toEqual(["tls://a:1", "tls://b:2"]);
    expect(configOf(["--sample"]).nats).toBeUndefined();
  });
});
