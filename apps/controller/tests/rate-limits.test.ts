import { connect } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { call, type Reply } from "./open-test-listeners.ts";

/** Seed 000 R7.4: who asks too much is told when to come back, and takes nothing from anybody else. */
let lab: IdentityLab;
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  const limits = { vm: 4, pool: 40, operator: 6, unknown: 8, connections: 100 };
  const flags = Object.entries(limits).flatMap(([name, n]) => [`--limits-${name}-per-second`, String(n)]);
  lab = await openIdentityLab({ flags, atEnd: (stop) => void stops.push(stop) });
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

const flood = (times: number, run: () => Promise<Reply>): Promise<Reply[]> =>
  Promise.all(Array.from({ length: times }, run));
const beat = (vmId: string, token: string): Promise<Reply> =>
  call(`${lab.url}/api/v1/vms/${vmId}/heartbeat`, {
    json: {},
    headers: { authorization: `Bearer ${token}` },
  });

it("a VM that asks too much waits as long as it is told, and the others notice nothing", async () => {
  const token = await lab.joinToken({ uses_max: 2 });
  const loud = (await lab.machine("vm-loud").join(token)).body.access_token;
  const quiet = (await lab.machine("vm-quiet").join(token)).body.access_token;
  const replies = await flood(60, () => beat("vm-loud", loud));
  const refused = replies.filter(({ status }) => status === 429);
  expect(replies.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(20);
  expect(refused.length).toBeGreaterThanOrEqual(30);
  expect((await beat("vm-quiet", quiet)).status).toBe(200);
  const { error } = refused[0]?.body ?? {};
  expect(error).toMatchObject({ code: "rate_limited", category: "transient" });
  expect(Number(refused[0]?.headers.get("retry-after"))).toBe(Math.ceil(error.retry_after_ms / 1000));
});

it("a key is bounded by itself", async () => {
  const key = await lab.key({ role: "viewer" });
  const replies = await flood(60, () => lab.api("GET", "vms", undefined, key));
  expect(replies.filter(({ status }) => status === 429).length).toBeGreaterThanOrEqual(25);
  expect((await lab.api("GET", "vms")).status).toBe(200);
});

it("guessing is bounded by address, and who is known is not touched by it", async () => {
  const replies = await flood(100, () => lab.api("GET", "vms", undefined, "a-wrong-token"));
  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([401, 429]));
  expect((await lab.api("GET", "vms")).status).toBe(200);
});

it("a flood of connections is cut before it costs anything, and then it is over", async () => {
  const { hostname, port } = new URL(lab.url);
  const outcomes = await Promise.all(
    Array.from(
      { length: 900 },
      () =>
        new Promise<"served" | "cut">((resolve) => {
          const socket = connect(Number(port), hostname, () => socket.write("GET /livez HTTP/1.0\r\n\r\n"));
          let heard = "";
          socket.on("data", (chunk) => {
            heard += chunk;
          });
          socket.on("error", () => resolve("cut"));
          socket.on("close", () => resolve(heard.startsWith("HTTP/1.1 200") ? "served" : "cut"));
        }),
    ),
  );
  expect(outcomes.filter((outcome) => outcome === "served").length).toBeGreaterThanOrEqual(400);
  expect(outcomes.filter((outcome) => outcome === "cut").length).toBeGreaterThan(50);
  expect((await lab.api("GET", "vms")).status).toBe(200);
});
