import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createTestCa, freePort, type TestCa } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { oldTls, startTlsLab, type TlsLab } from "./link-tls-lab.ts";

/**
 * A certificate must be verified on both runtimes, also where the environment says that it need not be: the same probe
 * is started on each, against the same servers.
 */
const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "../../../node_modules");
const bun = ["bun-linux-x64", "bun-linux-aarch64", "bun-darwin-aarch64", "bun-darwin-x64"]
  .map((name) => join(modules, "@oven", name, "bin/bun"))
  .find(existsSync);
const runtimes: [string, string | undefined][] = [
  ["Node", "bun" in process.versions ? join(modules, ".bin/node") : process.execPath],
  ["Bun", bun],
];

interface Outcome<T> {
  grpc: T;
  websocket: T;
  sse: T;
  http: T;
}

let ca: TestCa;
let otherCa: TestCa;
let folder: string;
const labs: TlsLab[] = [];
const at = (name: string): string => join(folder, name);
const hosts = ["localhost", "127.0.0.1"];
const lab = async (...about: Parameters<typeof startTlsLab>): Promise<TlsLab> => {
  const one = await startTlsLab(...about);
  labs.push(one);
  return one;
};
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mig-probe-"));
  [ca, otherCa] = await Promise.all([createTestCa(), createTestCa("somebody else")]);
  const mine = await ca.issue({ hosts: [], commonName: "vm-1" });
  await writeFile(at("ca.pem"), ca.caPem);
  await writeFile(at("other.pem"), otherCa.caPem);
  await writeFile(at("vm.pem"), mine.certPem);
  await writeFile(at("vm.key"), mine.keyPem, { mode: 0o600 });
});
afterAll(async () => {
  await Promise.all(labs.map((one) => one.close()));
  await rm(folder, { recursive: true, force: true });
});

describe.each(runtimes)("the link on %s", (_name, program) => {
  const probe = async (origin: string, ...files: string[]): Promise<Outcome<string>> => {
    const { stdout } = await run(
      program ?? "",
      ["--conditions=mig-source", join(here, "link-probe.ts"), origin, ...files],
      { env: { PATH: "/usr/bin:/bin", NODE_TLS_REJECT_UNAUTHORIZED: "0" }, timeout: 30_000 },
    );
    return JSON.parse(stdout) as Outcome<string>;
  };
  const all = (said: RegExp | string): Outcome<unknown> => {
    const one = typeof said === "string" ? said : expect.stringMatching(said);
    return { grpc: one, websocket: one, sse: one, http: one };
  };

  test.skipIf(program === undefined)(
    "carries every way over TLS, with SNI, ALPN and one connection each",
    async () => {
      const server = await lab(await ca.issue({ hosts }));
      expect(await probe(`https://localhost:${server.port}`, at("ca.pem"))).toEqual(all("went well"));
      expect(server.connections).toMatchObject([
        { servername: "localhost", alpn: "h2", protocol: "TLSv1.3" },
        { servername: "localhost", alpn: "http/1.1", protocol: "TLSv1.3" },
        { servername: "localhost", protocol: "TLSv1.3" },
        { servername: "localhost", protocol: "TLSv1.3" },
      ]);
    },
  );

  test.skipIf(program === undefined)("verifies, whatever NODE_TLS_REJECT_UNAUTHORIZED says", async () => {
    const server = await lab(await ca.issue({ hosts }));
    const origin = `https://localhost:${server.port}`;
    expect(await probe(origin, at("other.pem"))).toEqual(all(/set controller\.ca_path/));
    expect(await probe(origin)).toEqual(all(/set controller\.ca_path/));
    server.use(await ca.issue({ hosts: ["controller.example"] }));
    expect(await probe(origin, at("ca.pem"))).toEqual(all(/for another name/));
    server.use(await ca.issue({ hosts, notBefore: new Date(Date.now() - 3 * 86_400_000) }));
    expect(await probe(origin, at("ca.pem"))).toEqual(all(/has expired/));
    server.use(await otherCa.issue({ hosts }));
    expect(await probe(origin, at("ca.pem"))).toEqual(all(/set controller\.ca_path/));
    expect(server.streams).toEqual([]);
  });

  test.skipIf(program === undefined)(
    "shows a client certificate, and says what is missing without one",
    async () => {
      const server = await lab(await ca.issue({ hosts }), {
        ca: ca.caPem,
        requestCert: true,
        rejectUnauthorized: true,
      });
      const origin = `https://localhost:${server.port}`;
      expect(await probe(origin, at("ca.pem"))).toEqual(all(/controller\.tls\.cert_path/));
      expect(await probe(origin, at("ca.pem"), at("vm.pem"), at("vm.key"))).toEqual(all("went well"));
      expect(server.connections.map(({ client }) => client)).toEqual(["vm-1", "vm-1", "vm-1", "vm-1"]);
    },
  );

  test.skipIf(program === undefined)(
    "names servers without TLS, of old TLS, silent ones and none",
    async () => {
      const old = await lab(await ca.issue({ hosts }), oldTls);
      expect(await probe(`https://localhost:${old.port}`, at("ca.pem"))).toEqual(all(/TLS 1\.2 or newer/));
      const plain = createServer((socket) => {
        socket.on("error", () => {});
        socket.on("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
      });
      const silent = createServer((socket) => void socket.on("error", () => {}));
      for (const server of [plain, silent])
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const portOf = (server: typeof plain): number => (server.address() as { port: number }).port;
      try {
        expect(await probe(`https://localhost:${portOf(plain)}`, at("ca.pem"))).toEqual(
          all(/does not speak TLS/),
        );
        expect(await probe(`https://localhost:${portOf(silent)}`, at("ca.pem"))).toEqual(
          all(/within 2000 ms/),
        );
      } finally {
        plain.close();
        silent.close();
      }
      expect(await probe(`https://localhost:${await freePort()}`, at("ca.pem"))).toEqual(
        all(/nobody listens/),
      );
    },
  );
});
