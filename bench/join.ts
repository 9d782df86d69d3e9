/**
 * A thousand VMs join at once, as after a fleet was started.
 *
 *   node --conditions=mig-source bench/join.ts [vms]        on PGlite
 *   DATABASE_URL=postgres://… node --conditions=mig-source bench/join.ts
 *
 * Ours is the whole of it, over HTTP, to a controller process of its own: nonce, proof, enrolment token, identity,
 * audit entry, token. The floor is the cryptography of one join and nothing else (sign a nonce, verify it, verify the proof,
 * sign the token), in this process.
 */
import { generateKeyPairSync, sign, verify } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { createAppKey, freePort } from "@mig/sandbox";
import { Machine } from "../apps/controller/tests/identity-lab.ts";
import { spawnProgram, stopAll } from "../tests/lib/spawn.ts";

const vms = Number(process.argv[2] ?? 1_000);
const atOnce = 64;
const operatorToken = "operator-token-0123456789";

const dir = await mkdtemp(join(tmpdir(), "mig-bench-"));
try {
  await measure(process.env["DATABASE_URL"]);
} finally {
  await stopAll();
  await rm(dir, { recursive: true, force: true });
}

async function measure(databaseUrl: string | undefined): Promise<void> {
  const name = databaseUrl === undefined ? "PGlite" : "PostgreSQL";
  const url = await startController(databaseUrl, name);
  const token = await enrolmentToken(url, name);
  const machines = Array.from({ length: vms }, (_, n) => new Machine(url.http, `${name.toLowerCase()}-${n}`));
  const cpuBefore = await cpuMs(url.pid);
  const tookMs: number[] = [];
  const beganMs = performance.now();
  const waiting = [...machines];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let machine = waiting.pop(); machine !== undefined; machine = waiting.pop()) {
        const fromMs = performance.now();
        const reply = await machine.join(token);
        if (reply.status !== 200) throw new Error(JSON.stringify(reply.body));
        tookMs.push(performance.now() - fromMs);
      }
    }),
  );
  const allMs = performance.now() - beganMs;
  const cpu = (await cpuMs(url.pid)) - cpuBefore;
  tookMs.sort((a, b) => a - b);
  const at = (share: number): string => `${(tookMs[Math.floor(tookMs.length * share)] ?? 0).toFixed(0)} ms`;
  const floor = floorPerSecond();
  const ours = (vms / allMs) * 1000;
  console.log(
    `${name}: ${vms} joins in ${(allMs / 1000).toFixed(1)} s, ${ours.toFixed(0)}/s, p50 ${at(0.5)}, p99 ${at(0.99)}, ` +
      `${(cpu / vms).toFixed(2)} ms of the controller's processor each; floor ${floor.toFixed(0)}/s (${(1000 / floor).toFixed(2)} ms), ratio ${(floor / ours).toFixed(1)}`,
  );
}

async function startController(
  databaseUrl: string | undefined,
  name: string,
): Promise<{ http: string; pid: number }> {
  const port = await freePort();
  await writeFile(join(dir, "app.pem"), createAppKey().privateKeyPem, { mode: 0o600 });
  await writeFile(join(dir, "operator"), operatorToken, { mode: 0o600 });
  const config = {
    github: { app_id: 7, private_key_file: join(dir, "app.pem") },
    pools: [{ id: "pool-a", org_id: "acme", runner_url: "https://github.com/acme" }],
    operator_token_file: join(dir, "operator"),
    limits: { unknown_per_second: 100_000, connections_per_second: 100_000 },
  };
  await writeFile(join(dir, "mig.yaml"), JSON.stringify(config));
  const controller = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", "off", "--config", join(dir, "mig.yaml")],
    ...["--data-dir", join(dir, name), ...(databaseUrl === undefined ? [] : ["--database-url", databaseUrl])],
  ]);
  const http = `http://127.0.0.1:${port}`;
  await waitFor("the controller", () => fetch(`${http}/livez`).then((answer) => answer.ok), {
    timeoutMs: 40_000,
  });
  return { http, pid: controller.pid };
}

async function enrolmentToken({ http }: { http: string }, name: string): Promise<string> {
  const answer = await fetch(`${http}/api/v1/join-tokens`, {
    method: "POST",
    headers: { authorization: `Bearer ${operatorToken}`, "content-type": "application/json" },
    body: JSON.stringify({ pool_id: "pool-a", uses_max: vms, expires_in: "1h" }),
  });
  const body = (await answer.json()) as { token?: string };
  if (body.token === undefined) throw new Error(`${name}: ${JSON.stringify(body)}`);
  return body.token;
}

/** User and system time of a process so far; a tick is 10 ms on Linux. */
async function cpuMs(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function floorPerSecond(): number {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const text = Buffer.alloc(300, "x");
  const rounds = 1_000;
  const beganMs = performance.now();
  for (let n = 0; n < rounds; n += 1) {
    const nonce = sign("sha256", text, privateKey);
    verify("sha256", text, publicKey, nonce);
    verify("sha256", text, publicKey, nonce);
    sign("sha256", text, privateKey);
  }
  return (rounds / (performance.now() - beganMs)) * 1000;
}
