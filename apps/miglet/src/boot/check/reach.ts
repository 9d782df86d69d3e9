import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { PRODUCT_VERSION } from "@mig/protocol";

export interface ReachOptions {
  readonly signal: AbortSignal;
  readonly proxy?: URL | undefined;
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** For the remedies. */
  readonly caSetting?: string;
  readonly addressSetting: string;
}

export interface Reached {
  readonly host: string;
  /** For people: the steps that went well. */
  readonly how: string;
  /** Of this machine's clock, by the Date header; whole seconds. Absent when none came. */
  readonly aheadMs?: number;
}

/**
 * Goes the way of a request step by step (name, connection, proxy, TLS, answer), so that the first one that fails can
 * be named with its own remedy. On sockets, because an agent of node:http hides which step it was, and because
 * Bun's does not take a connection that was made elsewhere.
 */
export async function reach(url: URL, options: ReachOptions): Promise<Reached> {
  const { signal, proxy, addressSetting } = options;
  const sockets: Socket[] = [];
  const end = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  signal.addEventListener("abort", end, { once: true });
  try {
    const via = proxy ?? url;
    const address = await resolveName(via, proxy === undefined ? addressSetting : "https_proxy");
    let socket = await dial(via, address, proxy === undefined ? addressSetting : "https_proxy");
    sockets.push(socket);
    const steps = [`${address}:${portOf(via)}`];
    const isTls = url.protocol === "https:";
    if (proxy !== undefined) {
      if (isTls) await openTunnel(socket, url, proxy);
      steps.unshift(`proxy ${proxy.host}`);
    }
    if (isTls) {
      socket = await startTls(socket, url, options);
      sockets.push(socket);
      steps.push("TLS");
    }
    const isAbsolute = proxy !== undefined && !isTls;
    const sentAtMs = Date.now();
    const head = await ask(socket, url, isAbsolute);
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1];
    // A port that speaks gRPC only answers no HTTP/1; it is reached all the same.
    if (status !== undefined) steps.push(`HTTP ${status}`);
    if (isAbsolute && /^(?:407|50[234])$/.test(status ?? ""))
      throw new Error(`The proxy ${proxy.host} answered ${status}: check http_proxy and what it allows.`);
    const date = Date.parse(/^date:\s*(.+)$/im.exec(head)?.[1] ?? "");
    const aheadMs = (sentAtMs + Date.now()) / 2 - (date + 500);
    return { host: url.host, how: steps.join(", "), ...(Number.isNaN(date) ? {} : { aheadMs }) };
  } finally {
    signal.removeEventListener("abort", end);
    end();
  }
}

const bare = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, "");

function portOf({ port, protocol }: URL): number {
  return port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
}

async function resolveName(url: URL, setting: string): Promise<string> {
  const name = bare(url);
  if (isIP(name) !== 0) return name;
  try {
    return (await lookup(name)).address;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "error";
    throw new Error(`The name ${name} is not found (${code}): check DNS (/etc/resolv.conf) and ${setting}.`);
  }
}

/** A firewall that drops is the usual reason for silence; the check's own bound is a little longer. */
const stepMs = 4_000;

async function dial(url: URL, address: string, setting: string): Promise<Socket> {
  const socket = connect({ host: address, port: portOf(url) });
  socket.on("error", () => {});
  const problem = await firstEvent(socket, "connect");
  if (problem === undefined) return socket;
  throw new Error(
    `${url.host} cannot be reached (${problem}): check routes, firewall and ${setting}, and that it runs.`,
  );
}

async function startTls(socket: Socket, url: URL, options: ReachOptions): Promise<Socket> {
  const tls = await import("node:tls");
  const name = bare(url);
  const { ca, cert, key } = options;
  const chosen: ConnectionOptions = {
    socket,
    // The name that the certificate must have; an address is not sent as one (RFC 6066 §3).
    ...(isIP(name) === 0 ? { servername: name } : { host: name }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
  const secure = tls.connect(chosen);
  secure.on("error", () => {});
  const problem = await firstEvent(secure, "secureConnect");
  if (problem === undefined) return secure;
  const ask =
    options.caSetting === undefined ? "the machine's certificates (ca-certificates)" : options.caSetting;
  throw new Error(
    `TLS with ${url.host} fails (${problem}): check ${ask}, the name in its certificate and this machine's clock.`,
  );
}

/** Undefined: it came. Otherwise why not. */
function firstEvent(socket: Socket, event: "connect" | "secureConnect"): Promise<string | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => finish(`no answer in ${stepMs / 1_000} s`), stepMs);
    const finish = (problem?: string): void => {
      clearTimeout(timer);
      resolve(problem);
    };
    socket.once(event, () => finish());
    socket.once("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.once("close", () => finish("the connection was closed"));
  });
}

async function openTunnel(socket: Socket, url: URL, proxy: URL): Promise<void> {
  const target = `${url.hostname}:${portOf(url)}`;
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${proxyHeader(proxy)}\r\n`);
  const head = await readHead(socket);
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1];
  if (status?.startsWith("2") !== true)
    throw new Error(
      `The proxy ${proxy.host} lets nobody through to ${url.host} (${status ?? "no answer"}): check https_proxy, no_proxy and what the proxy allows.`,
    );
}

function proxyHeader({ username, password }: URL): string {
  if (username === "") return "";
  const words = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Proxy-Authorization: Basic ${Buffer.from(words).toString("base64")}\r\n`;
}

function ask(socket: Socket, url: URL, isAbsolute: boolean): Promise<string> {
  const target = isAbsolute ? url.href : url.pathname;
  socket.write(
    `HEAD ${target} HTTP/1.1\r\nHost: ${url.host}\r\nUser-Agent: miglet/${PRODUCT_VERSION}\r\nConnection: close\r\n\r\n`,
  );
  return readHead(socket);
}

const headBytesMax = 16_384;

/** What came until the blank line, the end, or the bound. */
function readHead(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let head = "";
    const finish = (): void => {
      clearTimeout(timer);
      socket.removeListener("data", take);
      socket.removeListener("close", finish);
      socket.pause();
      resolve(head);
    };
    const take = (chunk: Buffer): void => {
      head += chunk.toString("latin1");
      if (/\r?\n\r?\n/.test(head) || head.length > headBytesMax) finish();
    };
    const timer = setTimeout(finish, stepMs);
    socket.on("data", take);
    socket.once("close", finish);
    socket.resume();
  });
}
