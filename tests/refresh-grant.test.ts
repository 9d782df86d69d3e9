import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { waitFor } from "@mig/kit";
import { type GcpMetadata, startGcpMetadata } from "@mig/sandbox";
import { afterEach, beforeEach, expect, it } from "vitest";
import { understand } from "../apps/miglet/src/boot/grant-from-metadata.ts";
import { type House, openHouse } from "./lib/house.ts";

/**
 * The operator's script against a real controller, with stand-ins of gcloud, aws and gh that write down what they were
 * asked: the test carries it into the metadata service. Not tried against the real clouds.
 */
const script = fileURLToPath(new URL("../apps/miglet/deploy/refresh-grant.sh", import.meta.url));
const run = promisify(execFile);
let house: House;
let gcp: GcpMetadata;
let bin: string;

beforeEach(async () => {
  gcp = await startGcpMetadata();
  house = await openHouse({
    agent: { env: { MIGLET_METADATA_SOURCE: "gcp", MIGLET_METADATA_ENDPOINT: gcp.url } },
  });
  bin = join(house.dir, "cloud-bin");
  await mkdir(bin);
  const copy = '#!/bin/sh\nset -eu\nfor last; do :; done\nprintf "%s " "$@" >"$0.args"\n';
  await standIn("gcloud", `${copy}cat "\${last#*=}" >"$0.grant"\n`);
  await standIn("aws", `${copy}cat "\${last#file://}" >"$0.grant"\n`);
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
  await gcp.close();
});

const standIn = (name: string, text: string) => writeFile(join(bin, name), text, { mode: 0o755 });
const refresh = (env: Readonly<Record<string, string>>, ...args: string[]) =>
  run(script, args, { env: { PATH: `${bin}:${process.env["PATH"]}`, ...env } });
const written = (program: string): Promise<string> => readFile(join(bin, program), "utf8");
const onGcp = ["gcp", "vm-1", "europe-west1-b"];

/** A VM that has booted, and of which nothing more is heard. */
async function begins(vmId: string): Promise<void> {
  const event = {
    type: "vm_started",
    vm_id: vmId,
    pool_id: "pool-a",
    org_id: "acme",
    event_id: randomUUID(),
  };
  const answer = await fetch(`${house.url}/api/v1/vms/${vmId}/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...event, timestamp: new Date().toISOString() }),
  });
  expect(answer.ok, await answer.text()).toBe(true);
}

/** Pools of the house give JIT configs; from now on tokens. */
async function giveTokens(): Promise<void> {
  const path = join(house.dir, "controller.yaml");
  const config = JSON.parse(await readFile(path, "utf8"));
  config.default_pool.registration = "token";
  await writeFile(path, JSON.stringify(config));
  house.controller.kill("SIGTERM");
  await house.controller.ended();
  await house.restartController();
}

it("the controller gives a VM that has begun another grant, whole on GCP", async () => {
  await begins("vm-1");
  await refresh({ MIG_CONTROLLER: house.url }, ...onGcp);
  expect(await written("gcloud.args")).toMatch(
    /^compute instances add-metadata vm-1 --zone europe-west1-b --metadata-from-file github-registration_token=/,
  );
  expect(understand(await written("gcloud.grant"), "it", undefined, Date.now())).toMatchObject({
    is: "found",
    parameters: { jit_config: expect.any(String), runner_name: expect.stringMatching(/^vm-1-/) },
  });
});

it("on AWS a token fits into a tag", async () => {
  await giveTokens();
  await begins("vm-1");
  const { stdout } = await refresh({ MIG_CONTROLLER: house.url, MIG_VM_ID: "vm-1" }, "aws", "i-0123");
  expect(stdout).toMatch(/^refresh-grant: i-0123 has a grant until \d{4}-/);
  expect(await written("aws.args")).toMatch(/^ec2 create-tags --cli-input-json file:/);
  const { Resources, Tags } = JSON.parse(await written("aws.grant"));
  expect(Resources).toEqual(["i-0123"]);
  expect(Tags[0].Value.length).toBeLessThanOrEqual(256);
  expect(understand(Tags[0].Value, Tags[0].Key, undefined, Date.now())).toMatchObject({
    is: "found",
    parameters: { registration_token: expect.any(String), runner_url: `${house.github.webUrl}/acme` },
  });
});

it("a token of GitHub's lets a VM boot and work while the controller is away", async () => {
  await giveTokens();
  await begins("vm-other");
  await refresh({ MIG_CONTROLLER: house.url, MIG_VM_ID: "vm-other" }, ...onGcp);
  const other = JSON.parse(await written("gcloud.grant"));
  // What gh prints is the token alone, with its time.
  const printed = { token: other.registration_token, expires_at: other.expires_at };
  await standIn(
    "gh",
    `#!/bin/sh\nprintf '%s ' "$GH_HOST" "$@" >"$0.args"\necho '${JSON.stringify(printed)}'\n`,
  );
  await refresh({ RUNNER_URL: "https://github.com/acme" }, ...onGcp);
  expect(await written("gh.args")).toBe(
    "github.com api --method POST orgs/acme/actions/runners/registration-token ",
  );
  const grant = (await written("gcloud.grant")).replace("https://github.com", house.github.webUrl);
  gcp.setAttribute("github-registration_token", grant);

  house.controller.kill("SIGKILL");
  await house.controller.ended();
  const settings = ["github: { token_source: metadata, labels: [self-hosted, linux, x64] }"];
  const vm = await house.startVm("vm-1", { settings });
  const { id } = await house.github.queueJob({ overrides: { durationMs: 100 } });
  await waitFor("the job", async () => (await house.github.job(id))?.status === "completed", {
    timeoutMs: 30_000,
  });
  await house.restartController();
  expect(await vm.agent.ended()).toBe(0);
  const told = await house.until("vm-1", "state", "terminated");
  expect(told["runner_name"]).toMatch(/^vm-1-[0-9a-f]{8}$/);
});

it("a grant and a controller that sends register_runner make one runner, whichever is first", async () => {
  await giveTokens();
  await begins("vm-other");
  await refresh({ MIG_CONTROLLER: house.url, MIG_VM_ID: "vm-other" }, ...onGcp);
  const { runner_name: _others, ...grant } = JSON.parse(await written("gcloud.grant"));
  gcp.setAttribute("github-registration_token", JSON.stringify(grant));
  const vm = await house.startVm("vm-1", { settings: ["github: { token_source: metadata }"] });
  await house.until("vm-1", "state", "idle");
  expect(await house.github.runners()).toHaveLength(1);
  const { id } = await house.github.queueJob({ overrides: { durationMs: 100 } });
  expect(await vm.agent.ended()).toBe(0);
  expect((await house.github.job(id))?.result).toBe("Succeeded");
  const told = await house.until("vm-1", "state", "terminated");
  expect(told["problem"]).toBeNull();
});

it("says what to do where it cannot", async () => {
  const fails = (env: Readonly<Record<string, string>>, ...args: string[]) =>
    refresh(env, ...args).then(
      () => "",
      (error: { stderr: string }) => error.stderr,
    );
  const env = { MIG_CONTROLLER: house.url };
  expect(await fails(env, "azure")).toContain("Write gcp or aws");
  expect(await fails(env, "gcp", "vm-1")).toContain("gcp needs INSTANCE ZONE");
  expect(await fails({}, ...onGcp)).toContain("Say where the grant is from");
  expect(await fails(env, ...onGcp)).toContain("has not said vm_started");
  await begins("vm-1");
  expect(await fails(env, "aws", "vm-1")).toContain("registration: token");
});
