import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { createTestCa, installRunner as layOut } from "@mig/sandbox";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type InstallSettings,
  installRunner,
  platform,
  proxyFor,
} from "../src/runner/install/install-runner.ts";
import { retirePlace } from "../src/runner/install/places.ts";
import { isHarmless } from "../src/runner/install/unpack.ts";

/** Installing for real: an archive of the stand-in runner, real servers, the system's tar, real directories. */
const version = "2.336.0";
let root: string;
let archive: Buffer;
let sha256: string;
let asked: IncomingMessage[];
let sent: number;
/** How the server behaves at each request in turn; then well. */
let faults: ((request: IncomingMessage, response: ServerResponse) => void)[];
const closers: (() => void)[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-install-"));
  await chmod(root, 0o755);
  const source = join(root, "source");
  await layOut(source, { timeFactor: 0.02, version });
  await writeFile(join(source, "bin", "libbig.so"), randomBytes(4 * 1024 * 1024));
  // Its externals are links to this machine's Node, which no archive of actions/runner has.
  execFileSync("tar", ["-czf", join(root, "runner.tar.gz"), "-C", source, "--exclude=./externals", "."]);
  archive = await readFile(join(root, "runner.tar.gz"));
  sha256 = createHash("sha256").update(archive).digest("hex");
  asked = [];
  sent = 0;
  faults = [];
});
afterEach(async () => {
  for (const close of closers.splice(0)) close();
  await rm(root, { recursive: true, force: true });
});

function serve(request: IncomingMessage, response: ServerResponse): void {
  asked.push(request);
  const fault = faults.shift();
  if (fault === undefined) send(request, response, archive);
  else fault(request, response);
}

function send(request: IncomingMessage, response: ServerResponse, bytes: Buffer, cutAfter?: number): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const isRest = from > 0 && request.headers["if-range"] === '"v1"';
  const part = isRest ? bytes.subarray(from) : bytes;
  response.writeHead(isRest ? 206 : 200, {
    etag: '"v1"',
    "content-length": part.length,
    ...(isRest ? { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
  });
  const now = part.subarray(0, cutAfter ?? part.length);
  sent += now.length;
  response.write(now, () => (cutAfter === undefined ? response.end() : response.destroy()));
}

async function open(server: ReturnType<typeof createServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.close();
    (server as Partial<Pick<typeof server, "closeAllConnections">>).closeAllConnections?.();
  });
  return (server.address() as AddressInfo).port;
}

const settings = async (more: Partial<InstallSettings> = {}): Promise<InstallSettings> => ({
  imageDir: join(root, "image"),
  installRoot: join(root, "runners"),
  privateDir: join(root, "private"),
  downloadUrl: `http://127.0.0.1:${await open(createServer(serve))}/v{version}/actions-runner-{platform}-{version}.tar.gz`,
  timeoutMs: 20_000,
  environment: { host: {} },
  signal: new AbortController().signal,
  log: silentLog,
  ...more,
});
const wanted = () => ({ version, sha256: { [platform()]: sha256 } });

test("an image that has the right runner is used as it is", async () => {
  const image = join(root, "image");
  await layOut(image, { timeFactor: 0.02, version });
  const by = await settings();
  for (const want of [{}, { version }])
    expect(await installRunner(want, by)).toMatchObject({ source: "image", dir: image });
  expect(asked).toEqual([]);
});

test("another version is downloaded once, kept while unused, and never given out again after a job", async () => {
  await layOut(join(root, "image"), { timeFactor: 0.02, version: "2.100.0" });
  const by = await settings();
  const first = await installRunner(wanted(), by);
  expect(first).toMatchObject({ source: "downloaded", version, configured: false });
  expect(asked.map(({ url }) => url)).toEqual([
    `/v${version}/actions-runner-${platform()}-${version}.tar.gz`,
  ]);
  expect(execFileSync(first.listener, ["--version"], { cwd: first.dir, encoding: "utf8" })).toBe(
    `${version}\n`,
  );
  expect(await installRunner(wanted(), by)).toMatchObject({ source: "kept", dir: first.dir });
  await retirePlace(first.dir);
  const next = await installRunner(wanted(), by);
  expect(next).toMatchObject({ source: "downloaded" });
  expect(next.dir).not.toBe(first.dir);
  expect(await readdir(join(root, "private"))).toEqual([]);
});

test("a runner directory in which a process lives is never removed or given out", async () => {
  const by = await settings();
  const first = await installRunner(wanted(), by);
  const job = spawn("sleep", ["60"], { cwd: first.dir, stdio: "ignore" });
  closers.push(() => job.kill("SIGKILL"));
  await waitFor("the job", () => job.pid !== undefined);
  await retirePlace(first.dir);
  const second = await installRunner(wanted(), by);
  await retireLatest(by);
  const third = await installRunner(wanted(), by);
  await waitFor("what nobody uses to be gone", async () => !(await exists(second.dir)));
  expect(await exists(first.listener)).toBe(true);
  expect(await exists(third.listener)).toBe(true);
});

async function retireLatest({ installRoot }: InstallSettings): Promise<void> {
  for (const name of await readdir(installRoot))
    if (name.endsWith(".json")) await retirePlace(join(installRoot, name.slice(0, -5)));
}
const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

test("without a version or a checksum it says what is missing", async () => {
  const by = await settings();
  for (const [want, told] of [
    [{}, "runner.version and runner.sha256"],
    [{ version }, `runner.sha256 for ${platform()}`],
    [{ version, sha256: { "linux-riscv": sha256 } }, "runner.sha256 for"],
  ] as const)
    await expect(installRunner(want, by)).rejects.toMatchObject({
      code: "runner_not_installed",
      message: expect.stringContaining(told),
    });
});

test("a connection that breaks is taken up where it broke, and a server that begins anew is followed", async () => {
  const half = Math.floor(archive.length / 2);
  faults = [
    (request, response) => send(request, response, archive, half),
    (_request, response) => response.writeHead(503).end("later"),
    (request, response) => send(request, response, archive, 1_000_000),
  ];
  await installRunner(wanted(), await settings());
  expect(asked.map(({ headers }) => headers.range)).toEqual([
    undefined,
    expect.stringMatching(/^bytes=\d+-$/),
    expect.stringMatching(/^bytes=\d+-$/),
    expect.stringMatching(/^bytes=\d+-$/),
  ]);
  // What was on its way when the connection broke comes again, and no more than that.
  expect(sent).toBeLessThanOrEqual(archive.length * 1.5);
  faults = [
    (request, response) => send(request, response, archive, half),
    (_request, response) => {
      response.writeHead(200, { etag: '"v2"', "content-length": archive.length });
      response.end(archive);
    },
  ];
  const again = await settings({ installRoot: join(root, "other") });
  expect(await installRunner(wanted(), again)).toMatchObject({ source: "downloaded" });
});

test("what is not what the checksum says is not unpacked, and nothing is left of it", async () => {
  const by = await settings();
  const other = { version, sha256: "0".repeat(64) };
  await expect(installRunner(other, by)).rejects.toMatchObject({
    code: "runner_not_installed",
    message: expect.stringContaining(sha256),
  });
  expect(await readdir(join(root, "private"))).toEqual([]);
  expect(await exists(by.installRoot)).toBe(false);
});

test("a file that is not there, and redirects to where no file may come from, are told at once", async () => {
  const by = await settings();
  faults = [(_request, response) => response.writeHead(404).end()];
  await expect(installRunner(wanted(), by)).rejects.toMatchObject({
    message: expect.stringContaining("404"),
  });
  faults = [(_request, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end()];
  await expect(installRunner(wanted(), by)).rejects.toMatchObject({ code: "runner_not_installed" });
});

test("a stop in the middle ends it at once and leaves nothing", async () => {
  const stop = new AbortController();
  faults = [
    (_request, response) => {
      response.writeHead(200, { "content-length": archive.length });
      response.write(archive.subarray(0, 100));
    },
  ];
  const under = installRunner(wanted(), await settings({ signal: stop.signal }));
  await waitFor(
    "the download to begin",
    async () => (await readdir(join(root, "private")).catch(() => [])).length > 0,
  );
  stop.abort();
  await expect(under).rejects.toMatchObject({ code: "runner_install_failed" });
  expect(await readdir(join(root, "private"))).toEqual([]);
});

test("a server that says nothing more is given up after the time limit", async () => {
  faults = Array.from(
    { length: 20 },
    () => (_request: IncomingMessage, response: ServerResponse) => void response.writeHead(200),
  );
  await expect(installRunner(wanted(), await settings({ timeoutMs: 700 }))).rejects.toMatchObject({
    message: expect.stringContaining("700 ms"),
  });
});

test.skipIf(process.getuid?.() !== 0)("it belongs to the runner's user, who unpacked it", async () => {
  const user = { uid: 65_534, gid: 65_534, name: "nobody", home: "/" };
  const { dir, listener } = await installRunner(
    wanted(),
    await settings({ environment: { host: {}, user } }),
  );
  for (const path of [dir, listener]) expect((await stat(path)).uid).toBe(65_534);
  expect((await stat(join(root, "private"))).mode & 0o077).toBe(0);
});

test("an archive that writes outside of its directory is refused before anything is written", async () => {
  const evil = join(root, "evil");
  await mkdir(join(evil, "bin"), { recursive: true });
  await writeFile(join(evil, "bin", "x"), "");
  execFileSync("tar", [
    "-czf",
    join(root, "evil.tar.gz"),
    "-C",
    evil,
    "--transform",
    "s,^bin/x,../../escaped,",
    "bin/x",
  ]);
  archive = await readFile(join(root, "evil.tar.gz"));
  sha256 = createHash("sha256").update(archive).digest("hex");
  await expect(installRunner(wanted(), await settings())).rejects.toMatchObject({
    message: expect.stringContaining("leads out"),
  });
  expect(await exists(join(root, "escaped"))).toBe(false);
});

test("two agents at once get a directory each", async () => {
  const by = await settings();
  const both = await Promise.all([installRunner(wanted(), by), installRunner(wanted(), by)]);
  expect(new Set(both.map(({ dir }) => dir)).size).toBe(2);
  for (const { listener } of both) expect(await exists(listener)).toBe(true);
});

test("by TLS with a private authority, through a proxy that speaks CONNECT", async () => {
  const ca = await createTestCa();
  const { certPem: cert, keyPem: key } = await ca.issue({ hosts: ["runner.test"] });
  const caPath = join(root, "ca.pem");
  await writeFile(caPath, ca.caPem);
  const port = await open(createTlsServer({ cert, key }, serve) as never);
  const heads: string[] = [];
  // The proxy knows the way to a name that nobody else knows.
  const proxy = createTcpServer((near) => {
    near.on("error", () => {});
    near.once("data", (head) => {
      heads.push(head.toString());
      const far = connect(port, "127.0.0.1", () => {
        near.write("HTTP/1.1 200 Connection established\r\n\r\n");
        near.pipe(far).pipe(near);
      });
      far.on("error", () => near.destroy());
    });
  });
  const proxyPort = await open(proxy as never);
  const by = await settings({
    downloadUrl: "https://runner.test/{version}.tar.gz",
    proxy: `http://who:pass%20word@127.0.0.1:${proxyPort}`,
    caPath,
  });
  expect(await installRunner(wanted(), by)).toMatchObject({ source: "downloaded" });
  expect(heads[0]).toContain("CONNECT runner.test:443 HTTP/1.1");
  expect(heads[0]).toContain(`Basic ${Buffer.from("who:pass word").toString("base64")}`);
  const { caPath: _none, ...untrusting } = by;
  await expect(
    installRunner(wanted(), { ...untrusting, installRoot: join(root, "x"), timeoutMs: 1_500 }),
  ).rejects.toThrow();
});

test("the proxy of the machine is used, unless it says that the host is near", () => {
  const host = { https_proxy: "proxy:3128", no_proxy: "localhost,.corp.example" };
  const of = (href: string, proxy?: string) =>
    proxyFor(new URL(href), { environment: { host }, proxy })?.href;
  expect(of("https://github.com/x")).toBe("http://proxy:3128/");
  expect(of("http://github.com/x")).toBeUndefined();
  expect(of("https://files.corp.example/x")).toBeUndefined();
  expect(of("https://files.corp.example/x", "http://own:1/")).toBe("http://own:1/");
});

test("no listing of an archive with a way out is harmless", () => {
  const line = (type: string, name: string): string => `${type}rw-r--r-- 0/0  12 2026-08-17 14:15 ${name}`;
  for (const bad of ["/etc/passwd", "../x", "a/../../x", "a/b/../../../x"])
    expect(isHarmless(line("-", bad))).toBe(false);
  for (const good of ["./", "./bin/x", "a/../b", "a b/c -> d"])
    expect(isHarmless(line("-", good))).toBe(true);
  expect(isHarmless(line("l", "bin/x -> ../externals/x"))).toBe(true);
  for (const bad of ["x -> ../y", "bin/x -> ../../y", "x -> /etc/passwd"])
    expect(isHarmless(line("l", bad))).toBe(false);
  expect(isHarmless(line("h", "x link to ../y"))).toBe(false);
  for (const type of ["b", "c", "p", "s"]) expect(isHarmless(line(type, "dev"))).toBe(false);
  const part = fc.constantFrom("a", "b", "..", ".", "");
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
      const path = parts.join("/");
      let depth = 0;
      const low = Math.min(
        0,
        ...parts.map((one) => (depth += one === ".." ? -1 : one === "" || one === "." ? 0 : 1)),
      );
      if (path !== "" && isHarmless(line("-", path))) expect(low === 0 && !path.startsWith("/")).toBe(true);
    }),
  );
});
