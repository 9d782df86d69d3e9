import type { Log } from "@mig/kit";
import { maybe } from "@mig/protocol";
import type { Config } from "../config/config.ts";
import { readTlsMaterial, type TlsConfig } from "../config/tls-material.ts";
import { type Address, formatAddress } from "../config/values.ts";
import { createGate } from "./auth.ts";
import { type Door, openDoor } from "./door.ts";
import { createGrpcEdge } from "./grpc/grpc-edge.ts";
import type { Health } from "./health.ts";
import { createHttpApp, type HttpDesk } from "./http/http-app.ts";
import { createNatsEdge, type NatsEdge } from "./nats/nats-edge.ts";
import { createNatsStanding } from "./nats/standing.ts";
import { createNatsOffers } from "./nats/vm-credentials.ts";
import { openSampleFiles } from "./sample-files.ts";
import { createTlsEdge, type TlsEdge } from "./tls/tls-edge.ts";
import { type CertificateWatch, watchCertificate } from "./tls/watch-certificate.ts";
import { createWsEdge } from "./ws/ws-edge.ts";

export interface ListenersSettings {
  config: Config;
  desk: HttpDesk;
  log: Log;
  health: Health;
  /** Ends held requests; `close` ends the rest. */
  signal: AbortSignal;
  /** How often the certificate's files are looked at; 2 s without it. */
  tlsPollMs?: number;
}

export interface Listeners {
  httpAddress: Address;
  grpcAddress: Address | undefined;
  /** Stops listening, says goodbye to streams, finishes requests, cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** The stream of a refused agent from before MIG is kept for so long (reference/go-agent-wire.md §14.5). */
const holdMs = 30_000;
const retryMs = 1_000;
/** Below the 30 s at which common proxies cut a silent connection. */
const pingMsMax = 15_000;

interface OpenTls {
  edge: TlsEdge;
  watch: CertificateWatch;
}

/** Opens the ports. Every port speaks HTTP, WebSocket and gRPC; `grpc_listen` is there because agents were told that number. */
export async function startListeners({
  config,
  desk,
  log,
  health,
  signal,
  tlsPollMs = 2_000,
}: ListenersSettings): Promise<Listeners> {
  const gate = createGate({
    limits: config.limits,
    isOpen: config.mode !== "normal",
    tokens: config.tokens,
    desk,
    log,
    ...maybe("identity", desk.access),
  });
  const files = config.mode === "sample" ? openSampleFiles(config.dataDir, log) : undefined;
  const legacyPools = new Set(config.pools.filter((pool) => pool.legacyAgents).map((pool) => pool.id));
  const listed = new Set(config.pools.map((pool) => pool.id));
  const idleMs = config.connectionTimeoutMs;
  const pingMs = Math.min(pingMsMax, 2 * idleMs);
  const ws = createWsEdge({ desk, log, files, idleMs, pingMs, retryMs });
  const tls = config.tls === undefined ? undefined : openTls(config.tls, config, log, tlsPollMs);
  const http = await createHttpApp({
    desk,
    gate,
    health,
    log,
    files,
    signal,
    headersTimeoutMs: config.connectionTimeoutMs,
    pingMs,
    ws,
    offers: config.nats === undefined ? undefined : createNatsOffers(config.nats),
  });
  const grpc = createGrpcEdge({
    desk,
    gate,
    log,
    files,
    isLegacyPool: (id) =>
      legacyPools.has(id) || (!listed.has(id) && config.defaultPool?.legacyAgents === true),
    idleMs,
    holdMs,
    retryMs,
  });

  let nats: NatsEdge | undefined;
  const doors: Door[] = [];
  const open = async (address: Address): Promise<Address> => {
    let nextFullMs = 0;
    const door = await openDoor({
      address,
      connectionsMax: config.connectionsMax,
      connectionsPerSecond: config.limits.connections,
      firstBytesMs: config.connectionTimeoutMs,
      tls: tls?.edge,
      onHttp: (socket) => http.take(socket),
      onGrpc: (socket) => grpc.take(socket),
      onFull: () => {
        if (performance.now() < nextFullMs) return; // one line for a flood, not one for each of its connections
        nextFullMs = performance.now() + 10_000;
        log.warn(
          { address: formatAddress(address) },
          "connections are closed: connections_max or limits.connections_per_second is reached",
        );
      },
    });
    doors.push(door);
    return door.address;
  };
  const close = async (graceMs: number): Promise<void> => {
    tls?.watch.stop();
    for (const door of doors) door.stopListening();
    await Promise.all([http.close(graceMs), grpc.close(graceMs), ws.close(graceMs), nats?.close(graceMs)]);
    for (const door of doors) door.destroyAll();
    await files?.close();
  };

  try {
    const httpAddress = await open(config.listen);
    const grpcAddress = config.grpcListen === undefined ? undefined : await open(config.grpcListen);
    nats = openNats(config, desk, log);
    announce(config, httpAddress, grpcAddress, log);
    return { httpAddress, grpcAddress, close };
  } catch (error) {
    await close(0);
    throw error;
  }
}

function openNats(config: Config, desk: HttpDesk, log: Log): NatsEdge | undefined {
  const { nats, mode, tokens } = config;
  if (nats === undefined) return undefined;
  const isUnsigned = nats.accountSeed === undefined;
  if (isUnsigned && mode === "normal")
    log.warn(
      {},
      "nats.url without nats.account_seed_file: the NATS server alone says who may speak for which VM. Let the controller give each VM its own credentials",
    );
  const standingOf = createNatsStanding({
    isOpen: mode !== "normal",
    takesUnnamed: isUnsigned || tokens?.agent !== undefined,
    identities: desk.access?.identities,
  });
  return createNatsEdge({ config: nats, desk, log, standingOf, retryMs });
}

function openTls(files: TlsConfig, { connectionTimeoutMs }: Config, log: Log, pollMs: number): OpenTls {
  const material = readTlsMaterial(files, Date.now());
  const edge = createTlsEdge(files, { material, handshakeMs: connectionTimeoutMs, log });
  return { edge, watch: watchCertificate({ files, material, serve: edge.serve, log, pollMs }) };
}

function announce(config: Config, http: Address, grpc: Address | undefined, log: Log): void {
  log.info(
    {
      http: formatAddress(http),
      grpc: formatAddress(grpc ?? http),
      mode: config.mode,
      tls: config.tls !== undefined,
    },
    "listening for agents and operators",
  );
  if (config.tokens?.agent !== undefined)
    log.warn(
      {},
      "agent_token_file: one token speaks for every VM, and nothing tells them apart. For existing agents and for trying out; let VMs join instead",
    );
  if (config.mode !== "normal") {
    log.warn(
      { mode: config.mode },
      config.mode === "sample"
        ? "SAMPLE MODE: no authentication, the same registration token for everybody. For trying out only"
        : "DEVELOPMENT MODE: no authentication. For trying out only",
    );
  } else if (config.insecurePlaintext) {
    log.warn(
      {},
      "insecure_plaintext: tokens travel in clear text; set tls.cert_file and tls.key_file instead",
    );
  }
}
