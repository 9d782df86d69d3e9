import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, type GcpMetadata, startGcpMetadata } from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startJoinLab } from "./join-lab.ts";
import { TinyController } from "./tiny-controller.ts";

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));
let folder: string;
let gcp: GcpMetadata;
let controller: TinyController;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mig-boot-"));
  gcp = await startGcpMetadata();
  controller = await TinyController.open();
});
afterEach(async () => {
  await Promise.all([gcp.close(), controller.close()]);
  await rm(folder, { recursive: true });
});

const run = (args: string[], env: Record<string, string> = {}) =>
  new Promise<{ code: number | null; out: string; err: string }>((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], {
      env: {
        PATH: process.env["PATH"],
        MIGLET_METADATA_SOURCE: "none",
        MIGLET_PREREQUISITES_GITHUB_URL: "http://127.0.0.1:1",
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [out, err] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
  });
const fromGcp = () => ({ MIGLET_METADATA_SOURCE: "gcp", MIGLET_METADATA_ENDPOINT: gcp.url });
const canary = "canary-4711-do-not-print";

describe("miglet check", () => {
  const empty = () => ({
    MIGLET_STATE_DIR: join(folder, "state"),
    MIGLET_RUNNER_DIR: join(folder, "no-runner"),
    MIGLET_PREREQUISITES_DOCKER: "true",
    MIGLET_PREREQUISITES_MOUNTS: join(folder, "mnt"),
    MIGLET_RUNNER_USER: "nobody-at-all",
    PATH: "/nowhere",
  });

  it("on an empty machine lists everything that is missing, each with its remedy, and ends with 2", async () => {
    const { code, out } = await run(["check"], empty());
    expect(code).toBe(2);
    for (const line of [
      /^pool_id +WRONG +is required: set it in the file, or as MIGLET_POOL_ID/m,
      /^vm_id +WRONG/m,
      /^controller\.endpoint +WRONG +is required/m,
      /^runner +MISSING .*install actions\/runner/m,
      /^user +MISSING .*There is no user nobody-at-all on this machine: create it/m,
      /^docker +MISSING .*install Docker/m,
      /^mounts +MISSING .*is not mounted: mount it/m,
      /^bash +MISSING .*install bash/m,
      /^controller +not looked at +it needs controller\.endpoint/m,
      /^github +warning .*cannot be reached/m,
      /3 wrong in the settings, 5 missing/,
    ])
      expect(out).toMatch(line);
    // It only looks.
    expect(existsSync(join(folder, "state"))).toBe(false);
  });

  it("says the same as JSON", async () => {
    const { code, out } = await run(["check", "--json"], empty());
    const said = JSON.parse(out) as {
      exit_code: number;
      settings: { key: string }[];
      checks: { check: string; ok: boolean | null; required: boolean; problem: string | null }[];
    };
    expect(code).toBe(said.exit_code);
    expect(said.settings.map(({ key }) => key)).toEqual(["pool_id", "vm_id", "controller.endpoint"]);
    const missing = said.checks.filter(({ ok, required }) => required && ok === false);
    expect(missing.map(({ check }) => check).sort()).toEqual(["bash", "docker", "mounts", "runner", "user"]);
    expect(said.checks.find(({ check }) => check === "controller")?.ok).toBeNull();
  });

  it("with good settings and a missing runner ends with 3, with everything with 0", async () => {
    const settings = {
      MIGLET_POOL_ID: "p",
      MIGLET_VM_ID: "v",
      MIGLET_CONTROLLER_ENDPOINT: controller.url,
      MIGLET_STATE_DIR: join(folder, "state"),
      MIGLET_RUNNER_DIR: join(folder, "no-runner"),
      MIGLET_RUNNER_ALLOW_ROOT: "true",
      MIGLET_PREREQUISITES_DISK_FREE_MIB: "1",
    };
    const missing = await run(["check"], settings);
    expect(missing.code).toBe(3);
    expect(missing.out).toMatch(/^controller +ok +127\.0\.0\.1:\d+, HTTP \d+/m);
    const pinned = { MIGLET_RUNNER_VERSION: "2.336.0", MIGLET_RUNNER_SHA256: "a".repeat(64) };
    const well = await run(["check"], { ...settings, ...pinned });
    expect(well.out).toContain("This machine has what is needed");
    expect(well.code).toBe(0);
  });

  it("is over in time even where nothing answers", async () => {
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(mute.address() as AddressInfo).port}`;
    const beganAtMs = performance.now();
    const { code } = await run(["check"], {
      MIGLET_METADATA_SOURCE: "aws",
      MIGLET_METADATA_ENDPOINT: url,
      MIGLET_METADATA_TIMEOUT: "500ms",
      MIGLET_CONTROLLER_ENDPOINT: url,
      MIGLET_PREREQUISITES_GITHUB_URL: url,
    });
    expect(code).toBe(2);
    expect(performance.now() - beganAtMs).toBeLessThan(9_000);
    await close(mute);
  });
});

const close = async (server: Server): Promise<void> => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
};

describe("miglet config", () => {
  it("shows what is set and from where, and no secret", async () => {
    gcp.setAttribute("miglet-pool-id", "linux");
    gcp.setAttribute("miglet-controller-auth-token", canary);
    const env = { ...fromGcp(), MIGLET_CONTROLLER_ENDPOINT: "http://c" };
    const table = await run(["config", "--org_id", "acme"], env);
    expect(table.code).toBe(0);
    expect(table.out).toMatch(/^pool_id +linux +metadata: the instance attribute miglet-pool-id$/m);
    expect(table.out).toMatch(/^vm_id +runner-vm-1 +metadata: the instance itself$/m);
    expect(table.out).toMatch(/^org_id +acme +flag$/m);
    expect(table.out).toMatch(/^controller\.endpoint +http:\/\/c +environment$/m);
    expect(table.out).toMatch(/^controller\.auth\.token +\[secret\] +metadata/m);
    const json = await run(["config", "--json"], env);
    expect(JSON.parse(json.out)["controller.auth.token"]).toEqual({
      value: "[secret]",
      source: "metadata",
      place: "the instance attribute miglet-controller-auth-token",
    });
    for (const text of [table.out, table.err, json.out, json.err]) expect(text).not.toContain(canary);
  });

  it("refuses a secret on the command line, and does not repeat it", async () => {
    const { code, out, err } = await run(["config", "--controller.auth.token", canary]);
    expect(code).toBe(2);
    expect(err).toMatch(/controller\.auth\.token: is a secret, and everybody on this machine can read/);
    expect(out + err).not.toContain(canary);
  });

  it("warns of a token file that others can read", async () => {
    const path = join(folder, "token");
    await writeFile(path, canary);
    const flags = ["--pool_id", "p", "--vm_id", "v", "--controller.endpoint", "http://c"];
    const config = ["config", ...flags, "--controller.auth.token_path", path];
    await chmod(path, 0o644);
    expect((await run(config)).err).toMatch(/everybody on this machine has rights to .*chmod 0600/);
    await chmod(path, 0o640);
    expect((await run(config)).err).toMatch(/its group has rights/);
    await chmod(path, 0o600);
    expect(await run(config)).toMatchObject({ code: 0, err: "" });
  });
});

describe("an agent that cannot start", () => {
  it("tells the controller why, with category and every problem, and ends with 2", async () => {
    const seen: { headers: unknown; body: string }[] = [];
    const server = createServer((request, response) => {
      let body = "";
      request.setEncoding("utf8").on("data", (text: string) => (body += text));
      request.on("end", () => {
        seen.push({ headers: request.headers, body });
        response.setHeader("content-type", "application/json");
        response.end('{"status":"acknowledged","acknowledged":true}');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { code, out, err } = await run(["--heartbeat.interval", "0", "--hartbeat.timeout", "1s"], {
      MIGLET_POOL_ID: "p",
      MIGLET_VM_ID: "v",
      MIGLET_CONTROLLER_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      MIGLET_CONTROLLER_AUTH_TYPE: "bearer",
      MIGLET_CONTROLLER_AUTH_TOKEN: canary,
    });
    await close(server);
    expect(code).toBe(2);
    expect(err).not.toContain("was not told");
    expect(seen).toHaveLength(1);
    expect(seen[0]?.headers).toMatchObject({ authorization: `Bearer ${canary}` });
    const event = JSON.parse(seen[0]?.body ?? "{}");
    expect(event).toMatchObject({
      type: "error",
      vm_id: "v",
      pool_id: "p",
      code: "settings_invalid",
      category: "misconfig",
      fatal: true,
    });
    expect(event.problems.map(({ key }: { key: string }) => key).sort()).toEqual([
      "hartbeat.timeout",
      "heartbeat.interval",
    ]);
    expect(out + err + seen[0]?.body).not.toContain(canary);
  });

  it("joins to tell it, where that is how the controller knows it", async () => {
    const lab = await startJoinLab();
    const { code, out, err } = await run(["--heartbeat.interval", "0"], {
      MIGLET_VM_ID: "vm-1",
      MIGLET_STATE_DIR: join(folder, "state"),
      MIGLET_CONTROLLER_ENDPOINT: lab.url,
      MIGLET_JOIN_TOKEN: canary,
    });
    await lab.close();
    expect([code, err.includes("was not told")]).toEqual([2, false]);
    expect(lab.asked.map(({ call }) => call)).toEqual(["nonce", "join", "events"]);
    expect(lab.asked[2]).toMatchObject({
      authorization: "Bearer token-2",
      body: { type: "error", vm_id: "vm-1", pool_id: "pool-a", org_id: "acme", code: "settings_invalid" },
    });
    expect(out + err).not.toContain(canary);
  });

  it("says that it could not, and ends with 2 all the same and soon", async () => {
    const beganAtMs = performance.now();
    const { code, err } = await run(["--heartbeat.interval", "0"], {
      MIGLET_POOL_ID: "p",
      MIGLET_VM_ID: "v",
      MIGLET_CONTROLLER_ENDPOINT: `http://127.0.0.1:${await freePort()}`,
    });
    expect(code).toBe(2);
    expect(err).toMatch(/The controller was not told: .*ECONNREFUSED/);
    expect(performance.now() - beganAtMs).toBeLessThan(6_000);
    expect((await run(["--heartbeat.interval", "0"])).err).toMatch(/was not told: vm_id, pool_id or/);
  });

  it("starts from nothing but metadata, and tells vm_started as the VM that the cloud names", async () => {
    gcp.setAttribute(
      "miglet-config",
      `pool_id: linux
state_dir: ${join(folder, "state")}
controller: { endpoint: "${controller.url}", channel: poll }
runner: { dir: "${join(folder, "none")}", allow_root: true }
shutdown: { flush_timeout: 5s }
`,
    );
    const { code } = await run([], fromGcp());
    expect(controller.types()).toEqual(["vm_started", "error", "vm_shutting_down", "vm_terminated"]);
    expect(controller.events[0]).toMatchObject({ vmId: "runner-vm-1", poolId: "linux" });
    expect(controller.events[1]?.data).toMatchObject({ code: "runner_not_installed", category: "misconfig" });
    expect(code).toBe(3);
  });
});
