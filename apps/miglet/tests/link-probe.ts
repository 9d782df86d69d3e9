/**
 * A program that tries the ways of the link against one address and prints what came of it as a line of JSON. Started
 * by link-runtimes.test.ts on Node and on Bun, whose http, http2 and tls are two different implementations.
 *
 *   link-probe.ts <origin> <ca file or ""> <cert file or ""> <key file or "">
 */
import { silentLog } from "@mig/kit";
import { openGrpcLink } from "../src/link/grpc-link.ts";
import { createHttpCalls } from "../src/link/http-calls.ts";
import { openSseLink } from "../src/link/sse-link.ts";
import { createTlsSource } from "../src/link/tls-material.ts";
import { openWsLink } from "../src/link/ws-link.ts";

const [origin = "", caPath = "", certPath = "", keyPath = ""] = process.argv.slice(2);
const file = (path: string): string | undefined => (path === "" ? undefined : path);
const tls = createTlsSource({ caPath: file(caPath), certPath: file(certPath), keyPath: file(keyPath) });
const beat = { vmId: "vm-1", poolId: "pool-1", sentAtMs: 1 };
const speaker = {
  vmId: "vm-1",
  poolId: "pool-1",
  incarnation: "boot-install",
  version: "0.1.0",
  migletState: () => "ready",
};
const outcomeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "went well",
    (error: Error) => error.message,
  );

async function tryStream(open: typeof openGrpcLink): Promise<void> {
  const { link } = await open(
    { endpoint: origin, speaker, tls, connectMs: 2000, answerMs: 2000, log: silentLog },
    { onCommand: () => {}, onDown: () => {}, onGoAway: () => {} },
  );
  for (let n = 0; n < 3; n += 1) await link.sendHeartbeat(beat);
  await link.close();
}

async function tryHttp(): Promise<void> {
  const calls = createHttpCalls({
    endpoint: origin,
    vmId: "vm-1",
    incarnation: "boot-install",
    tls,
    timeoutMs: 2000,
    log: silentLog,
  });
  try {
    for (let n = 0; n < 3; n += 1) await calls.postHeartbeat(beat);
  } finally {
    calls.close();
  }
}

async function trySse(): Promise<void> {
  const about = { endpoint: origin, vmId: "vm-1", incarnation: "boot-install", tls, log: silentLog };
  const http = createHttpCalls(about);
  try {
    const { link } = await openSseLink(
      { endpoint: origin, http, speaker, tls, cursor: {}, connectMs: 2000, silentMs: 2000, log: silentLog },
      { onCommand: () => {}, onDown: () => {}, onGoAway: () => {} },
    );
    await link.close();
  } finally {
    http.close();
  }
}

console.log(
  JSON.stringify({
    grpc: await outcomeOf(tryStream(openGrpcLink)),
    websocket: await outcomeOf(tryStream(openWsLink)),
    sse: await outcomeOf(trySse()),
    http: await outcomeOf(tryHttp()),
  }),
);
