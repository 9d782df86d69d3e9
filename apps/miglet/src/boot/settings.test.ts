import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { helpText, parseCommandLine } from "./command-line.ts";
import { exitCodes } from "./exit-codes.ts";
import { readSettings, type SettingSources } from "./settings.ts";
import { settingKeys, variableOf } from "./settings-table.ts";
import { renderProblems, renderSettings } from "./show.ts";

/** The example of seed 001, word for word. */
const seedFile = `
pool_id: "pool-123"
vm_id: "vm-456"
org_id: "org-789"

controller:
  endpoint: "https://controller.monkci.io"
  auth:
    type: "bearer"
    token_path: "/var/run/secrets/controller-token"
  timeout: 30s
  retry:
    max_attempts: 5
    initial_backoff: 1s
    max_backoff: 30s

github:
  org: "myorg"
  runner_group: "default"
  labels: ["self-hosted", "linux", "x64"]
  token_source: "controller"  # Request token from MIG Controller (recommended)
  registration_timeout: 60s

heartbeat:
  interval: 15s
  timeout: 60s

shutdown:
  grace_period: 30s
  force_after: 5m

logging:
  level: "info"
  format: "json"
  redact_secrets: true

metrics:
  collection_interval: 10s
  include_disk: true
  include_network: true
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mig-settings-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(file: string, environment: SettingSources["environment"] = {}, ...argv: string[]) {
  const config = join(folder, "miglet.yaml");
  await writeFile(config, file);
  const line = parseCommandLine(["--config", config, ...argv]);
  if (line.ask !== "run") throw new Error(`the command line means ${line.ask}`);
  return readSettings({ flags: line.flags, environment });
}

const small = "pool_id: p\nvm_id: v\ncontroller: { endpoint: http://c:8080 }\n";

describe("the settings", () => {
  it("take the seed's file as it is", async () => {
    const { settings, problems, warnings } = await read(seedFile);
    expect([problems, warnings]).toEqual([[], []]);
    expect(settings).toMatchObject({
      vm_id: "vm-456",
      "controller.endpoint": "https://controller.monkci.io",
      "controller.retry.max_backoff": 30_000,
      "github.labels": ["self-hosted", "linux", "x64"],
      "shutdown.force_after": 300_000,
      "logging.level": "info",
    });
  });

  it("flag over metadata over variable over file over default", async () => {
    const metadata = () =>
      Promise.resolve({
        given: ["vm_id", "org_id"].map((key) => ({ key, raw: "of-metadata", source: "a tag" })),
        problems: [],
      });
    const environment = {
      MIGLET_VM_ID: "of-environment",
      MIGLET_ORG_ID: "of-environment",
      MIGLET_POOL_ID: "of-environment",
      MIGLET_LOGGING_LEVEL: "",
    };
    const config = join(folder, "order.yaml");
    await writeFile(
      config,
      "pool_id: of-file\nvm_id: of-file\nheartbeat: { interval: 20s }\ncontroller: { endpoint: http://c }\n",
    );
    const flags = { config, settings: new Map([["vm_id", "of-flag"]]) };
    const { settings, origins } = await readSettings({ flags, environment, metadata });
    expect(settings).toMatchObject({
      vm_id: "of-flag",
      org_id: "of-metadata",
      pool_id: "of-environment",
      "heartbeat.interval": 20_000,
      "logging.level": "info",
    });
    expect(
      ["vm_id", "org_id", "pool_id", "heartbeat.interval", "logging.level"].map((key) =>
        origins.get(key as "vm_id"),
      ),
    ).toEqual(["flag", "metadata", "environment", "file", "default"]);
  });

  it("come from the variables of the Go agent alone, without a file", async () => {
    const environment = {
      MIGLET_POOL_ID: "p",
      MIGLET_VM_ID: "v",
      MIGLET_CONTROLLER_GRPC_ENDPOINT: "10.10.0.2:50051",
      MIGLET_GITHUB_LABELS: "a, b",
      MIGLET_STORAGE_MONGODB_ENABLED: "true",
      MIGLET_VMID: "x",
    };
    const { settings, warnings } = await readSettings({ flags: { settings: new Map() }, environment });
    expect(settings).toMatchObject({
      "controller.grpc_endpoint": "10.10.0.2:50051",
      "github.labels": ["a", "b"],
    });
    expect(warnings.join()).toMatch(
      /storage\.mongodb\.enabled.*MIGLET_VMID is no setting\. Did you mean MIGLET_VM_ID\?/,
    );
  });

  it("tell all problems at once: key, place, remedy", async () => {
    const { settings, problems } = await read(
      "vm_id: a/b\nheartbeat: { intervall: 1s, interval: 0s }\nrunner: 7\n",
      { MIGLET_CONTROLLER_TIMEOUT: "15" },
      "--log-level",
      "loud",
    );
    expect(settings).toBeUndefined();
    const text = renderProblems(problems);
    for (const part of [
      "pool_id: is required: set it in the file, or as MIGLET_POOL_ID",
      'vm_id: "a/b" is not an id',
      "heartbeat.intervall: is no setting. Did you mean heartbeat.interval?",
      'heartbeat.interval: "0s" is not a duration such as 15s or 1m30s, from 1s to 1h',
      "runner: is no setting",
      'controller.timeout: "15" is not a duration such as 15s or 1m30s, from 1s to 10m (the variable MIGLET_CONTROLLER_TIMEOUT)',
      'logging.level: "loud" is not debug, info, warn, error (the flag --logging.level)',
    ])
      expect(text).toContain(part);
  });

  it.each([
    ["heartbeat: { interval: -1s }", "heartbeat.interval"],
    ["heartbeat: { interval: 15 }", "heartbeat.interval"],
    ["heartbeat: { interval: 2m }", "heartbeat.timeout"],
    ["controller: { endpoint: controller:8080 }", "controller.endpoint"],
    ["controller: { endpoint: 'http://user:pass@c' }", "controller.endpoint"],
    ["controller: { endpoint: 'ftp://c' }", "controller.endpoint"],
    ["controller: { grpc_endpoint: 'c:99999' }", "controller.grpc_endpoint"],
    ["controller: { channel: pigeon }", "controller.channel"],
    ["controller: { channel: poll, grpc_endpoint: 'c:1' }", "controller.channel"],
    ["controller: { channel: websocket, grpc_endpoint: 'c:1' }", "controller.channel"],
    ["controller: { channel: sse, grpc_endpoint: 'c:1' }", "controller.channel"],
    ["controller: { auth: { type: bearer } }", "controller.auth.token_path"],
    ["controller: { auth: { type: mtls } }", "controller.auth.type"],
    ["controller: { grpc_endpoint: 'c:1' }\njoin: { method: token }", "controller.endpoint"],
    ["controller: { endpoint: 'http://c', auth: { type: none } }\njoin: { method: token }", "join.method"],
    ["controller: { endpoint: 'http://c' }\njoin: { method: none, token_path: /t }", "pool_id"],
    ["join: { method: azure }", "join.method"],
    ["controller: { endpoint: 'https://c' }\njoin: { method: mtls }", "controller.tls.cert_path"],
    ["controller: { retry: { initial_backoff: 1m } }", "controller.retry.max_backoff"],
    ["github: { token_source: metadata }\nmetadata: { source: none }", "github.token_source"],
    ["github: { token_source: vault }", "github.token_source"],
    ["github: { labels: { a: b } }", "github.labels"],
    ["runner: { reuse: maybe }", "runner.reuse"],
    ["shutdown: { command: [[nested]] }", "shutdown.command"],
    ["prerequisites: { disk_free_mib: -5 }", "prerequisites.disk_free_mib"],
    ["vm_id: [a]", "vm_id"],
    ["vm_id: ..", "vm_id"],
    [`vm_id: ${"x".repeat(200)}`, "vm_id"],
    ["a: [", "--config"],
    ["- a", "--config"],
    ["constructor: { polluted: true }", "constructor.polluted"],
  ])("refuse %j", async (line, key) => {
    const base = line.startsWith("controller") || line.startsWith("vm_id") || line === "- a" ? "" : small;
    const { problems } = await read(`${base}${line}\n`);
    expect(problems.map((problem) => problem.key)).toContain(key);
    expect({}).not.toHaveProperty("polluted");
  });

  it("need no pool from a VM that joins, and show no enrolment token", async () => {
    const token = "mgj_canary-of-enrolment";
    const ok = await read("vm_id: v\ncontroller: { endpoint: 'http://c' }\n", { MIGLET_JOIN_TOKEN: token });
    if (ok.settings === undefined) throw new Error(renderProblems(ok.problems));
    expect(ok.settings).toMatchObject({ pool_id: undefined, "join.token": token });
    expect(renderSettings(ok.settings, ok, false) + renderSettings(ok.settings, ok, true)).not.toContain(
      token,
    );
    const flag = await read("", {}, "--join.token", token);
    expect(renderProblems(flag.problems)).toMatch(/join\.token: is a secret, .*join\.token_path/);
  });

  it("never print what may be a secret", async () => {
    const token = `ghs_${"a".repeat(40)}`;
    const { problems } = await read(small, {}, "--controller.timeout", token);
    expect(renderProblems(problems)).not.toContain(token);
    const ok = await read(small, {}, "--github.org", token);
    if (ok.settings === undefined) throw new Error("refused");
    expect(renderSettings(ok.settings, ok, false) + renderSettings(ok.settings, ok, true)).not.toContain(
      token,
    );
  });

  it("are all in the help, with their variables", () => {
    for (const key of settingKeys)
      expect(helpText()).toMatch(new RegExp(`--${key} .*\\n.*${variableOf(key)}`));
  });
});

describe("the command line", () => {
  it.each([
    [["-version"], { ask: "version" }],
    [["--help"], { ask: "help" }],
    [["check", "--json"], { ask: "check", json: true }],
    [["dance"], { ask: "unclear" }],
    [["--config"], { ask: "unclear" }],
    [["run", "now"], { ask: "unclear" }],
  ])("%j", (argv, expected) => {
    expect(parseCommandLine(argv)).toMatchObject(expected);
  });
  it("takes the flags of existing agents, with one dash or two", () => {
    const line = parseCommandLine(["-config", "f.yaml", "-log-level=debug", "--log-format", "text"]);
    expect(line).toMatchObject({ ask: "run", flags: { config: "f.yaml" } });
    expect("flags" in line ? [...line.flags.settings] : []).toEqual([
      ["logging.level", "debug"],
      ["logging.format", "text"],
    ]);
  });
});

it("the README has every exit code with its meaning", async () => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const plain = readme.replaceAll("`", "").replaceAll(/ +/g, " ");
  for (const [code, meaning] of Object.entries(exitCodes))
    expect(plain).toContain(`| ${code} | ${meaning.replaceAll("`", "")} |`);
});

it("the official runner's own toggle allows root, and ours wins over it", async () => {
  const flags = {
    settings: new Map([
      ["pool_id", "p"],
      ["vm_id", "v"],
      ["controller.endpoint", "http://c"],
    ]),
  };
  const allows = async (environment: Record<string, string>) =>
    (await readSettings({ flags, environment })).settings?.["runner.allow_root"];
  expect(await allows({ RUNNER_ALLOW_RUNASROOT: "1" })).toBe(true);
  expect(await allows({ RUNNER_ALLOW_RUNASROOT: "" })).toBe(false);
  expect(await allows({ RUNNER_ALLOW_RUNASROOT: "1", MIGLET_RUNNER_ALLOW_ROOT: "false" })).toBe(false);
});
