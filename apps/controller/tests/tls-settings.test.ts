import { createPrivateKey } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestCa, type TestCa, type TestCertificate } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildConfig } from "../src/config/config.ts";
import { readInvocation } from "../src/config/env.ts";
import { showProblems } from "../src/config/show.ts";

let dir: string;
let ca: TestCa;
let good: TestCertificate;
let normal: string[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-tls-settings-"));
  ca = await createTestCa();
  good = await ca.issue({ hosts: ["localhost"] });
  await put("agent.token", "agent-token-0123456789");
  await put("operator.token", "operator-token-0123456789");
  await put("app.pem", "-----BEGIN RSA PRIVATE KEY-----\nnot really\n-----END RSA PRIVATE KEY-----\n");
  await put("tls.crt", good.certPem);
  await put("tls.key", good.keyPem);
  await put("ca.pem", ca.caPem);
  normal = [
    ...["--agent-token-file", at("agent.token"), "--operator-token-file", at("operator.token")],
    ...["--github-app-id", "7", "--github-private-key-file", at("app.pem")],
    ...["--runner-url", "https://github.com/acme"],
  ];
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const at = (name: string): string => join(dir, name);
const put = (name: string, text: string) => writeFile(at(name), text);
const build = (flags: string[]) => buildConfig(readInvocation([...normal, ...flags], {}));
const problemsOf = (flags: string[]): string => {
  const outcome = build(flags);
  return outcome.ok ? "" : showProblems(outcome.problems);
};
const locked = (keyPem: string): string =>
  createPrivateKey(keyPem)
    .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" })
    .toString();
const pair = () => ["--tls-cert-file", at("tls.crt"), "--tls-key-file", at("tls.key")];
const outside = ["--listen", "0.0.0.0:8080"];

describe("who may be served in clear text", () => {
  test("this machine, and others only when that is said", () => {
    expect(problemsOf([])).toBe("");
    expect(problemsOf(["--listen", "[::1]:8080", "--grpc-listen", "localhost:1"])).toBe("");
    expect(problemsOf([...outside, ...pair()])).toBe("");
    expect(problemsOf([...outside, "--insecure-plaintext"])).toBe("");
  });

  test.each([
    [["--listen", "0.0.0.0:8080"], "listen"],
    [["--listen", "[::]:8080"], "listen"],
    [["--grpc-listen", "10.0.0.1:50051"], "grpc_listen"],
    [["--listen", "mig.internal:8080"], "listen"],
  ])("%j is refused with what to do", (flags, name) => {
    const told = problemsOf(flags);
    expect(told).toContain(`${name} "`);
    expect(told).toContain("tls.cert_file");
    expect(told).toContain("insecure_plaintext: true");
  });

  test("sample mode stays on loopback whatever is said", () => {
    const outcome = buildConfig(readInvocation(["--sample", ...outside, "--insecure-plaintext"], {}));
    expect(outcome.ok).toBe(false);
  });
});

describe("what the TLS settings must be", () => {
  test("the default is TLS 1.3 without client certificates; an authority makes them optional", () => {
    const plain = build(pair());
    expect(plain.ok && plain.config.tls).toMatchObject({ minVersion: "TLSv1.3", clientCerts: "off" });
    const both = build([...pair(), "--tls-client-ca-file", at("ca.pem"), "--tls-min-version", "1.2"]);
    expect(both.ok && both.config.tls).toMatchObject({ minVersion: "TLSv1.2", clientCerts: "optional" });
  });

  const notBefore = new Date(Date.now() - 3 * 86_400_000);
  test.each<[string, () => Promise<string[]> | string[], string]>([
    ["a key is missing", () => pair().slice(0, 2), "names the key of tls.cert_file"],
    ["a certificate is missing", () => pair().slice(2), "names the certificate of tls.key_file"],
    [
      "a file is missing",
      () => [...pair().slice(0, 2), "--tls-key-file", at("none")],
      "cannot be read: ENOENT",
    ],
    ["plaintext and TLS", () => [...pair(), "--insecure-plaintext"], "excludes tls.cert_file"],
    ["TLS 1.1", () => [...pair(), "--tls-min-version", "1.1"], "must be one of 1.3, 1.2"],
    [
      "clients without an authority",
      () => [...pair(), "--tls-client-certs", "required"],
      "needs tls.client_ca_file",
    ],
    ["an authority without TLS", () => ["--tls-client-ca-file", at("ca.pem")], "means nothing without"],
    [
      "a foreign key",
      async () => files(good.certPem, (await ca.issue({ hosts: ["x"] })).keyPem),
      "does not fit",
    ],
    ["an expired certificate", () => issued({ days: 1, notBefore }), "expired on"],
    [
      "a certificate of tomorrow",
      () => issued({ notBefore: new Date(Date.now() + 9e7) }),
      "look at this machine's clock",
    ],
    ["no PEM", () => files("certainly", good.keyPem), "it holds none"],
    [
      "broken PEM",
      () => files("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", good.keyPem),
      "number 1",
    ],
    ["no key", () => files(good.certPem, good.certPem), "must hold a private key"],
    ["an encrypted key", () => files(good.certPem, locked(good.keyPem)), "passphrase"],
  ])("%s", async (_, flags, rule) => {
    const told = problemsOf(await flags());
    expect(told).toContain(rule);
    expect(told).not.toContain("BEGIN");
  });

  async function files(certPem: string, keyPem: string): Promise<string[]> {
    await put("bad.crt", certPem);
    await put("bad.key", keyPem);
    return ["--tls-cert-file", at("bad.crt"), "--tls-key-file", at("bad.key")];
  }
  async function issued(more: { days?: number; notBefore: Date }): Promise<string[]> {
    const { certPem, keyPem } = await ca.issue({ hosts: ["localhost"], ...more });
    return files(certPem, keyPem);
  }
});
