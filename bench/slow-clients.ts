/**
 * Slow connections against a controller process, while an agent beats (issue 5: p99 of its heartbeats below 100 ms).
 *
 *   node --conditions=mig-source bench/slow-clients.ts [connections] [seconds]
 *
 * The attackers are a process of their own, so that what is measured is the controller and not this program. A third
 * each sends the head of a request slowly, sends its body slowly, and asks for much and reads nothing; whoever is
 * closed comes back. The same agent without the attack is measured before, in the same run.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pause, waitFor } from "@mig/kit";
import { createAppKey, freePort } from "@mig/sandbox";
import { Machine } from "../apps/controller/tests/identity-lab.ts";
import { type SlowClients, startSlowClients } from "../tests/lib/slow-clients.ts";
import { spawnProgram, stopAll } from "../tests/lib/spawn.ts";

type Counts = ReturnType<SlowClients["counts"]>;

const operatorToken = "operator-token-0123456789";
const beatEveryMs = 50;

if (process.send === undefined)
  await measure(Number(process.argv[2] ?? 2_000), Number(process.argv[3] ?? 30));
else attack(Number(process.argv[2]), Number(process.argv[3]));

/** In the process of the attackers. */
function attack(port: number, connections: number): void {
  const clients = startSlowClients({ port, connections, comesBack: true });
  setInterval(() => process.send?.(clients.counts()), 500);
  process.on("disconnect", () => process.exit(0));
}

async function measure(connections: number, seconds: number): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "mig-slow-"));
  let attackers: ChildProcess | undefined;
  try {
    const { url, port, pid } = await startController(dir);
    const token = await joinAsVm(url);
    const beats = async (): Promise<string> => {
      const cpuBefore = await cpuMs(pid);
      const tookMs: number[] = [];
      let refused = 0;
      let rssMax = 0;
      const untilMs = performance.now() + seconds * 1_000;
      while (performance.now() < untilMs) {
        const fromMs = performance.now();
        const isAnswered = await beat(url, token);
        if (isAnswered) tookMs.push(performance.now() - fromMs);
        else refused += 1;
        rssMax = Math.max(rssMax, await rssMb(pid));
        await pause(beatEveryMs);
      }
      tookMs.sort((a, b) => a - b);
      const at = (share: number): string =>
        (tookMs[Math.min(tookMs.length - 1, Math.floor(tookMs.length * share))] ?? Number.NaN).toFixed(1);
      const cpu = ((await cpuMs(pid)) - cpuBefore) / (seconds * 10);
      return (
        `${tookMs.length} heartbeats, ${refused} not answered, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, ` +
        `max ${at(1)} ms; controller: ${cpu.toFixed(0)} % of a core, at most ${rssMax.toFixed(0)} MB`
      );
    };
    console.log(`alone:        ${await beats()}`);
    const program = fileURLToPath(import.meta.url);
    attackers = fork(program, [String(port), String(connections)], { execArgv: ["--conditions=mig-source"] });
    let counts: Counts = { open: 0, closed: { head: 0, body: 0, read: 0 } };
    attackers.on("message", (message: Counts) => {
      counts = message;
    });
    await waitFor("the attackers", () => counts.open >= connections * 0.8, { timeoutMs: 60_000 });
    console.log(`under attack: ${await beats()}`);
    const { open, closed } = counts;
    console.log(
      `              ${open} slow connections open; closed so far: ${closed.head} slow heads, ${closed.body} slow bodies, ${closed.read} that read nothing`,
    );
    attackers.kill();
    console.log(`afterwards:   ${await beats()}`);
  } finally {
    attackers?.kill();
    await stopAll();
    await rm(dir, { recursive: true, force: true });
  }
}

async function startController(dir: string): Promise<{ url: string; port: number; pid: number }> {
  const port = await freePort();
  await writeFile(join(dir, "app.pem"), createAppKey().privateKeyPem, { mode: 0o600 });
  await writeFile(join(dir, "operator"), operatorToken, { mode: 0o600 });
  const config = {
    github: { app_id: 7, private_key_file: join(dir, "app.pem") },
    pools: [{ id: "pool-a", org_id: "acme", runner_url: "https://github.com/acme" }],
    operator_token_file: join(dir, "operator"),
  };
  await writeFile(join(dir, "mig.yaml"), JSON.stringify(config));
  const { pid } = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", "off", "--config", join(dir, "mig.yaml")],
    ...["--data-dir", join(dir, "data")],
  ]);
  const url = `http://127.0.0.1:${port}`;
  await waitFor("the controller", () => fetch(`${url}/livez`).then((answer) => answer.ok), {
    timeoutMs: 40_000,
  });
  return { url, port, pid };
}

async function joinAsVm(url: string): Promise<string> {
  const answer = await fetch(`${url}/api/v1/join-tokens`, {
    method: "POST",
    headers: { authorization: `Bearer ${operatorToken}`, "content-type": "application/json" },
    body: JSON.stringify({ pool_id: "pool-a" }),
  });
  const { token } = (await answer.json()) as { token: string };
  return (await new Machine(url, "vm-1").join(token)).body.access_token;
}

/** Over the connection that fetch keeps, as an agent does. */
async function beat(url: string, token: string): Promise<boolean> {
  const answer = await fetch(`${url}/api/v1/vms/vm-1/heartbeat`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ miglet_state: "idle" }),
  }).catch(() => undefined);
  await answer?.text();
  return answer?.status === 200;
}

/** User and system time of a process so far; a tick is 10 ms on Linux. */
async function cpuMs(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function rssMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}
