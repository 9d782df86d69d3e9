import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createHttp, type RequestListener, type Server } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, connect, createServer as createTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLog, silentLog, waitFor } from "@mig/kit";
import { createTestCa, freePort, type TestCa } from "@mig/sandbox";
import fc from "fast-check";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseMountPoints } from "../src/boot/check/machine.ts";
import { proxyFor } from "../src/boot/check/proxy.ts";
import { passPrerequisites } from "../src/boot/pass-prerequisites.ts";
import { type Check, checkPrerequisites } from "../src/boot/prerequisites.ts";
import { readSettings } from "../src/boot/settings.ts";
import type { Settings } from "../src/boot/settings-table.ts";

let folder: string;
const open: { close(): unknown }[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mig-check-"));
  await chmod(folder, 0o755);
});
afterEach(async () => {
  for (const one of open.splice(0)) one.close();
  await rm(folder, { recursive: true });
});

const settingsWith = async (given: Record<string, string>): Promise<Settings> => {
  const all = {
    pool_id: "p",
    vm_id: "v",
    state_dir: join(folder, "state"),
    "controller.endpoint": "http://127.0.0.1:1",
    "runner.dir": join(folder, "runner"),
    "runner.allow_root": "true",
    "prerequisites.disk_free_mib": "1",
    "controller.retry.initial_backoff": "20ms",
    "controller.retry.max_backoff": "50ms",
    ...given,
  };
  const { settings, problems } = await readSettings({
    flags: { settings: new Map(Object.entries(all)) },
    environment: {},
  });
  if (settings === undefined) throw new Error(JSON.stringify(problems));
  return settings;
};
const lookFor = async (
  name: string,
  given: Record<string, string> = {},
  environment: Record<string, string> = { PATH: process.env["PATH"] ?? "" },
): Promise<Check> => {
  const checks = await checkPrerequisites(await settingsWith(given), {
    scope: "everything",
    names: new Set([name, "controller", "github"]),
    machine: { environment, facts: { cloud: "gcp" } },
    withinMs: 3_000,
  });
  const found = checks.find((check) => check.name === name);
  if (found === undefined) throw new Error(`no check ${name}`);
  return found;
};
const program = async (name: string, script: string): Promise<string> => {
  await mkdir(join(folder, "bin"), { recursive: true });
  await writeFile(join(folder, "bin", name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return `${join(folder, "bin")}:/usr/bin:/bin`;
};
const installed = async (): Promise<string> => {
  const dir = join(folder, "runner");
  await mkdir(join(dir, "bin"), { recursive: true });
  for (const name of ["bin/Runner.Listener", "config.sh"])
    await writeFile(join(dir, name), "#!/bin/sh\n", { mode: 0o755 });
  return dir;
};
const listen = async (server: Server): Promise<number> => {
  open.push({ close: () => server.closeAllConnections() }, server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
};
const serve = async (answer: RequestListener = (_, response) => response.end()): Promise<string> =>
  `http://127.0.0.1:${await listen(createHttp(answer))}`;
const isRoot = process.getuid?.() === 0;

describe("the machine", () => {
  it("a runner that is there, or that can be downloaded, is well; else the remedy is both", async () => {
    const missing = await lookFor("runner");
    expect(missing).toMatchObject({ isRequired: true, code: "runner_not_installed", canHeal: false });
    expect(missing.problem).toMatch(/install actions\/runner.*Or set runner\.version and runner\.sha256/);
    const pinned = { "runner.version": "2.336.0", "runner.sha256": "a".repeat(64) };
    expect((await lookFor("runner", pinned)).note).toBe("2.336.0 will be downloaded");
    await installed();
    expect((await lookFor("runner")).problem).toBeUndefined();
  });

  it("mounts that are not there are named, and may still come", async () => {
    expect((await lookFor("mounts", { "prerequisites.mounts": `/proc,/proc/,/` })).problem).toBeUndefined();
    const check = await lookFor("mounts", { "prerequisites.mounts": `/proc,${folder}` });
    expect(check).toMatchObject({ isRequired: true, canHeal: true });
    expect(check.problem).toContain(`${folder} is not mounted`);
  });

  it("files that settings name must be readable", async () => {
    const ca = join(folder, "ca.pem");
    const check = await lookFor("files", { "controller.ca_path": ca });
    expect(check).toMatchObject({ isRequired: true, code: "settings_invalid" });
    expect(check.problem).toBe(`${ca} cannot be read (ENOENT): correct controller.ca_path.`);
  });

  it.runIf(isRoot)("directories are tried as the runner's user", async () => {
    const dir = await installed();
    const given = { "runner.user": "nobody" };
    expect((await lookFor("directories", given)).problem).toMatch(/nobody cannot write .*chown -R nobody/);
    await chown(dir, 65_534, 65_534);
    expect((await lookFor("directories", given)).problem).toBeUndefined();
    await chmod(folder, 0o711);
    expect((await lookFor("directories", given)).problem).toMatch(/nobody cannot list .*chmod 0755/);
  });

  it("a user that is missing, or is root, is misconfiguration", async () => {
    expect((await lookFor("user", { "runner.user": "no-such-user" })).problem).toMatch(/There is no user/);
    const root = await lookFor("user", { "runner.user": "root", "runner.allow_root": "false" });
    expect(root).toMatchObject({ isRequired: true, code: "settings_invalid" });
    expect(root.problem).toMatch(/is root/);
  });

  it("warns of a job's tracking id and of libraries that ldconfig does not know", async () => {
    expect((await lookFor("environment", {}, { RUNNER_TRACKING_ID: "x" })).problem).toMatch(/inside a job/);
    const PATH = await program("ldconfig", "echo '  libssl.so.3 (libc6) => /usr/lib/libssl.so.3'");
    const check = await lookFor("libraries", {}, { PATH });
    expect(check).toMatchObject({ isRequired: false });
    expect(check.problem).toMatch(/libicuuc cannot be found.*installdependencies\.sh/);
  });

  it.runIf(isRoot)("a metadata service that the runner's user can reach is a warning", async () => {
    const endpoint = await serve();
    const given = { "runner.user": "nobody", "metadata.endpoint": endpoint };
    const check = await lookFor("metadata_service", given);
    expect(check.isRequired).toBe(false);
    expect(check.problem).toMatch(/Jobs of nobody can reach/);
    const closed = { ...given, "metadata.endpoint": `http://127.0.0.1:${await freePort()}` };
    expect((await lookFor("metadata_service", closed)).note).toBe("closed to nobody");
  });

  it("mount points with blanks and backslashes are read back from what proc(5) says", () => {
    const toOctal = (path: string): string =>
      path.replaceAll(/[\\ \t\n]/g, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, "0")}`);
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", " ", "\\", "\t", "\n", "/") }), (path) => {
        const line = `36 35 98:0 / /${toOctal(path)} rw,noatime master:1 - ext3 /dev/root rw\n`;
        expect(parseMountPoints(line)).toContain(`/${path}`);
      }),
    );
  });
});

describe("Docker", () => {
  const required = { "prerequisites.docker": "true" };
  it("that answers is well, and is asked as the runner's user", async () => {
    const PATH = await program("docker", `id -u > ${folder}/uid; echo 27.1`);
    if (isRoot) await chmod(folder, 0o777);
    const check = await lookFor(
      "docker",
      { ...required, ...(isRoot ? { "runner.user": "nobody" } : {}) },
      { PATH },
    );
    expect(check).toMatchObject({ isRequired: true, note: "server 27.1" });
    if (isRoot) expect((await readFile(join(folder, "uid"), "utf8")).trim()).toBe("65534");
  });
  it("each failure has its remedy, and may pass", async () => {
    const denied = await program("docker", "echo 'permission denied while trying to connect' >&2; exit 1");
    const check = await lookFor("docker", required, { PATH: denied });
    expect(check).toMatchObject({ isRequired: true, canHeal: true, code: "prerequisite_missing" });
    expect(check.problem).toMatch(/usermod -aG docker/);
    const down = await program("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    expect((await lookFor("docker", required, { PATH: down })).problem).toMatch(
      /systemctl enable --now docker/,
    );
    expect((await lookFor("docker", required, { PATH: "/nowhere" })).problem).toMatch(
      /no docker on the PATH/,
    );
  });
  it("that hangs is given up in time", async () => {
    const PATH = await program("docker", "exec sleep 60");
    const beganAtMs = performance.now();
    expect((await lookFor("docker", required, { PATH })).problem).toMatch(/within 3 s/);
    expect(performance.now() - beganAtMs).toBeLessThan(4_500);
  });
});

describe("the network", () => {
  let ca: TestCa;
  beforeAll(async () => {
    ca = await createTestCa();
  });
  const secure = async (hosts: string[], answer: RequestListener = (_, response) => response.end("x")) => {
    const { certPem, keyPem } = await ca.issue({ hosts });
    return listen(createHttps({ cert: certPem, key: keyPem }, answer) as unknown as Server);
  };
  const caFile = async (): Promise<string> => {
    await writeFile(join(folder, "ca.pem"), ca.caPem);
    return join(folder, "ca.pem");
  };

  it("a controller behind TLS of a private authority is reached with it, and not without", async () => {
    const port = await secure(["localhost"]);
    const given = { "controller.endpoint": `https://localhost:${port}`, "prerequisites.network": "true" };
    const well = await lookFor("controller", { ...given, "controller.ca_path": await caFile() });
    expect(well.note).toMatch(/TLS, HTTP 200/);
    const strange = await lookFor("controller", given);
    expect(strange).toMatchObject({ isRequired: true, canHeal: true, code: "controller_unreachable" });
    expect(strange.problem).toMatch(/TLS with localhost:\d+ fails.*(?:controller\.ca_path|certificates)/);
  });

  it("a controller that is known by its address is reached", async () => {
    const port = await secure(["127.0.0.1"]);
    const given = {
      "controller.endpoint": `https://127.0.0.1:${port}`,
      "controller.ca_path": await caFile(),
    };
    expect((await lookFor("controller", given)).note).toMatch(/TLS, HTTP 200/);
  });

  it("a certificate of another name is refused", async () => {
    const port = await secure(["elsewhere.test"]);
    const check = await lookFor("controller", {
      "controller.endpoint": `https://localhost:${port}`,
      "controller.ca_path": await caFile(),
    });
    expect(check.problem).toMatch(/TLS .* fails .*the name in its certificate/);
  });

  it("name, connection and silence each have their own words", async () => {
    const of = async (endpoint: string) =>
      (await lookFor("controller", { "controller.endpoint": endpoint })).problem;
    expect(await of("http://no-such-host.invalid:1")).toMatch(/name no-such-host\.invalid is not found.*DNS/);
    expect(await of(`http://127.0.0.1:${await freePort()}`)).toMatch(/ECONNREFUSED.*firewall/);
    const plain = await serve();
    expect(await of(plain.replace("http:", "https:"))).toMatch(/TLS with .* fails/);
    const mute = createTcp();
    open.push(mute);
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    expect(await of(`https://127.0.0.1:${(mute.address() as AddressInfo).port}`)).toMatch(/within 3 s/);
  });

  it("a port that speaks only gRPC counts as reached", async () => {
    const server = createTcp((socket) => socket.end(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])));
    open.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const check = await lookFor("controller", { "controller.endpoint": `http://127.0.0.1:${port}` });
    expect(check.problem).toBeUndefined();
  });

  it("GitHub is reached through the proxy of the environment, which may refuse", async () => {
    const tunnels: string[] = [];
    const proxy = createHttp();
    let status = 200;
    proxy.on("connect", (request, socket) => {
      tunnels.push(request.url ?? "");
      socket.on("error", () => {});
      if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
      const { hostname, port } = new URL(`http://${request.url}`);
      const through = connect(Number(port), hostname, () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        through.pipe(socket);
        socket.pipe(through);
      });
      through.on("error", () => socket.destroy());
    });
    const https_proxy = `http://me:secret@127.0.0.1:${await listen(proxy)}`;
    const port = await secure(["localhost"]);
    const given = { "prerequisites.github_url": `https://localhost:${port}`, "prerequisites.github": "true" };
    const check = await lookFor("github", given, { https_proxy });
    // The machine's own authorities do not know ours: that far it came, through the proxy.
    expect(check.problem).toMatch(/TLS with localhost/);
    expect(tunnels).toEqual([`localhost:${port}`]);
    status = 407;
    const refused = await lookFor("github", given, { https_proxy });
    expect(refused).toMatchObject({ code: "github_unavailable", isRequired: true });
    expect(refused.problem).toMatch(/lets nobody through .*\(407\)/);
    expect(JSON.stringify(refused)).not.toContain("secret");
    expect((await lookFor("github", given, { https_proxy, no_proxy: "localhost" })).problem).toMatch(/TLS/);
    expect(tunnels).toHaveLength(2);
  });

  it.each([
    [-3 * 86_400_000, /clock is 3d ahead of/],
    [3_600_000, /clock is 1h behind/],
    [0, undefined],
  ])("a clock that is %d ms from the controller's", async (offsetMs, expected) => {
    const endpoint = await serve((_, response) =>
      response.setHeader("date", new Date(Date.now() + offsetMs).toUTCString()).end(),
    );
    const check = await lookFor("clock", { "controller.endpoint": endpoint });
    expect(check.isRequired).toBe(false);
    if (expected === undefined) expect(check.problem).toBeUndefined();
    else expect(check.problem).toMatch(expected);
  });

  it.each([
    ["https://a.example.com", "example.com", false],
    ["https://a.example.com", ".example.com", false],
    ["https://a.example.com", "x.com, *.example.com", false],
    ["https://notexample.com", "example.com", true],
    ["https://a.example.com:8443", "example.com:443", true],
    ["https://a.example.com:8443", "example.com:8443", false],
    ["https://[::1]:1", "::1", true],
    ["https://anything", "*", false],
    ["https://anything", "", true],
  ])("%s with no_proxy %j", (url, no_proxy, isProxied) => {
    const proxy = proxyFor(new URL(url), { HTTPS_PROXY: "proxy:3128", no_proxy });
    expect(proxy?.host).toBe(isProxied ? "proxy:3128" : undefined);
  });
});

describe("before a life begins", () => {
  const pass = async (given: Record<string, string>, more = {}, log = silentLog) =>
    passPrerequisites(await settingsWith(given), {
      machine: { environment: { PATH: process.env["PATH"] } },
      log,
      ...more,
    });

  it("what comes late is waited for", async () => {
    await installed();
    const port = await freePort();
    let lines = "";
    const log = createLog({ level: "warn", write: (line) => (lines += line) });
    const passing = pass(
      {
        "controller.endpoint": `http://127.0.0.1:${port}`,
        "prerequisites.network": "true",
        "controller.retry.initial_backoff": "500ms",
        "controller.retry.max_backoff": "1s",
      },
      {},
      log,
    );
    await waitFor("it has failed once", () => lines.includes("The machine is not ready"));
    const server = createHttp((_, response) => response.end());
    open.push({ close: () => server.closeAllConnections() }, server);
    server.listen(port, "127.0.0.1");
    expect(await passing).toBeUndefined();
  });

  it("a transient one is tried five times more, and keeps its code", async () => {
    await installed();
    let lines = "";
    const log = createLog({ level: "warn", write: (line) => (lines += line) });
    const endpoint = `http://127.0.0.1:${await freePort()}`;
    const problem = await pass({ "controller.endpoint": endpoint, "prerequisites.network": "true" }, {}, log);
    expect(problem?.code).toBe("controller_unreachable");
    expect(lines.match(/looked at again/g)).toHaveLength(5);
  });

  it("one of the machine is waited for as long as patience lasts", async () => {
    await installed();
    const problem = await pass({ "prerequisites.mounts": folder }, { patienceMs: 300 });
    expect(problem).toMatchObject({ code: "prerequisite_missing" });
    expect(problem?.message).toContain("is not mounted");
  });

  it("misconfiguration fails at once, and tells what may be late as well", async () => {
    let lines = "";
    const log = createLog({ level: "warn", write: (line) => (lines += line) });
    const problem = await pass({ "prerequisites.mounts": folder }, {}, log);
    expect(problem?.code).toBe("runner_not_installed");
    expect(problem?.message).toMatch(/Runner\.Listener is missing[\s\S]*is not mounted/);
    expect(lines).not.toContain("looked at again");
  });
});
