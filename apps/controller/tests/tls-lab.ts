import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { createLog, type Log } from "@mig/kit";
import { createTestCa, type TestCa, type TestCertificate } from "@mig/sandbox";
import { openTestListeners, type TestListeners } from "./open-test-listeners.ts";

export interface TlsLab extends AsyncDisposable {
  ca: TestCa;
  dir: string;
  certPath: string;
  keyPath: string;
  caPath: string;
  /** What the controller logged. */
  lines: Record<string, unknown>[];
  listeners: TestListeners;
  /** Replaces the files as a renewing tool does: each whole, one after the other. */
  put(certificate: TestCertificate): Promise<void>;
}

export interface TlsLabSettings {
  flags?: string[];
  certificate?: { days?: number };
}

/** Listeners that speak TLS, with an authority of their own. */
export async function openTlsLab({ flags = [], certificate }: TlsLabSettings = {}): Promise<TlsLab> {
  const dir = await mkdtemp(join(tmpdir(), "mig-tls-"));
  const ca = await createTestCa();
  const [certPath, keyPath, caPath] = ["tls.crt", "tls.key", "ca.pem"].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  const put = async ({ certPem, keyPem }: TestCertificate): Promise<void> => {
    await replace(certPath, certPem);
    await replace(keyPath, keyPem);
  };
  await writeFile(caPath, ca.caPem);
  await put(
    await ca.issue({ hosts: ["127.0.0.1", "localhost"], commonName: "first", days: 30, ...certificate }),
  );
  const lines: Record<string, unknown>[] = [];
  const log: Log = createLog({
    level: "debug",
    format: "json",
    write: (line) => lines.push(JSON.parse(line)),
  });
  const files = ["--tls-cert-file", certPath, "--tls-key-file", keyPath];
  const listeners = await openTestListeners({
    flags: ["--sample", ...files, ...flags.map((flag) => (flag === "CA" ? caPath : flag))],
    log,
  });
  return {
    ca,
    dir,
    certPath,
    keyPath,
    caPath,
    lines,
    listeners,
    put,
    async [Symbol.asyncDispose]() {
      await listeners[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function replace(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** One handshake; rejects with the reason why there was none. */
export function shake(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", servername: "localhost", ...options }, () =>
      resolve(socket),
    );
    socket.once("error", reject);
    socket.on("error", () => {});
  });
}

export interface HttpsAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
  /** CN of the certificate that the server showed on this connection. */
  shown: string;
  localPort: number;
}

export function get(
  port: number,
  path: string,
  options: ConnectionOptions & { agent?: Agent },
): Promise<HttpsAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { port, path, host: "localhost", family: 4, agent: new Agent(), ...options },
      (answer) => {
        const socket = answer.socket as TLSSocket;
        const shown = String(socket.getPeerCertificate().subject?.CN);
        const localPort = socket.localPort ?? 0;
        let body = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          body += chunk;
        });
        answer.on("end", () =>
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body, shown, localPort }),
        );
      },
    );
    asked.on("error", reject);
    asked.end();
  });
}
