import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface TestCertificate {
  /** The certificate alone; its issuer is `caPem`. */
  readonly certPem: string;
  readonly keyPem: string;
}

export interface TestCertificateRequest {
  /** DNS names and IP addresses that the certificate is for; a client certificate may have none. */
  readonly hosts: readonly string[];
  /** URIs that name a client, as in spiffe://. */
  readonly uris?: readonly string[];
  /** How long it is valid, from `notBefore` on; 1 without it. */
  readonly days?: number;
  /** An hour ago without it. In the past with few days gives an expired certificate. */
  readonly notBefore?: Date;
  /** The first host without it. */
  readonly commonName?: string;
}

export interface TestCa {
  readonly caPem: string;
  /** For servers and clients both. */
  issue(request: TestCertificateRequest): Promise<TestCertificate>;
}

const dayMs = 86_400_000;
const keyOptions = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/**
 * A certificate authority of its own for tests and development: the openssl program does what node cannot, namely sign
 * certificates. P-256 keys, because they are made in milliseconds. Nothing stays on disk.
 */
export async function createTestCa(name = "MIG test authority"): Promise<TestCa> {
  const root = await inFolder(async (folder) => {
    await openssl(folder, [
      ...["req", "-x509", ...keyOptions, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650"],
      ...["-subj", `/CN=${name}`, "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ]);
    return { certPem: await read(folder, "ca.pem"), keyPem: await read(folder, "ca.key") };
  });
  return { caPem: root.certPem, issue: (request) => inFolder((folder) => issue(folder, root, request)) };
}

async function issue(
  folder: string,
  root: TestCertificate,
  {
    hosts,
    uris = [],
    days = 1,
    notBefore = new Date(Date.now() - 3_600_000),
    commonName,
  }: TestCertificateRequest,
): Promise<TestCertificate> {
  const names = [
    ...hosts.map((host) => `${isIP(host) === 0 ? "DNS" : "IP"}:${host}`),
    ...uris.map((uri) => `URI:${uri}`),
  ];
  await Promise.all([
    writeFile(join(folder, "ca.pem"), root.certPem),
    writeFile(join(folder, "ca.key"), root.keyPem, { mode: 0o600 }),
    writeFile(join(folder, "index.txt"), ""),
    writeFile(join(folder, "openssl.cnf"), configuration(names)),
  ]);
  const subject = `/CN=${commonName ?? hosts[0] ?? "client"}`;
  await openssl(folder, [
    ...["req", "-new", ...keyOptions, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", subject],
  ]);
  // `openssl x509` cannot set the begin of the validity before 3.4; `openssl ca` always could.
  await openssl(folder, [
    ...["ca", "-batch", "-notext", "-config", "openssl.cnf", "-in", "leaf.csr", "-out", "leaf.pem"],
    ...["-startdate", stamp(notBefore), "-enddate", stamp(new Date(notBefore.getTime() + days * dayMs))],
  ]);
  return { certPem: await read(folder, "leaf.pem"), keyPem: await read(folder, "leaf.key") };
}

const configuration = (names: readonly string[]): string => `
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
${names.length === 0 ? "" : `subjectAltName = ${names.join(",")}`}
`;

/** GeneralizedTime, as openssl takes it. */
const stamp = (date: Date): string => `${date.toISOString().replace(/\D/g, "").slice(0, 14)}Z`;

const read = (folder: string, name: string): Promise<string> => readFile(join(folder, name), "utf8");

async function openssl(folder: string, args: readonly string[]): Promise<void> {
  try {
    await run("openssl", args, { cwd: folder, timeout: 30_000 });
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new Error(
      isMissing
        ? "Test certificates need the openssl program: install the package openssl."
        : `openssl ${args[0]} failed: ${(cause as { stderr?: string }).stderr ?? String(cause)}`,
      { cause },
    );
  }
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "mig-ca-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
