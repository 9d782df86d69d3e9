import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { freePort } from "../free-port.ts";

/** A real nats-server with JetStream on a free port of loopback, with a store of its own. */
export interface NatsServer extends AsyncDisposable {
  readonly url: string;
  /** Ends the process at once. */
  kill(): Promise<void>;
  /** Stops without a word: connections stay open and nobody answers. */
  pause(): void;
  resume(): void;
  /** On the same port and store. */
  start(): Promise<void>;
}

/** Whether the program is on the PATH; tests of the channel are skipped by name without it, unless servers are demanded. */
export function hasNatsServer(): boolean {
  const isThere = spawnSync("nats-server", ["--version"], { stdio: "ignore" }).status === 0;
  if (!isThere && process.env["MIG_TEST_REQUIRE_SERVERS"] === "1")
    throw new Error("no nats-server on the PATH: install the Debian package nats-server");
  return isThere;
}

/** `more`: of its configuration, beside port and store. */
export async function startNatsServer(more = ""): Promise<NatsServer> {
  const dir = await mkdtemp(join(tmpdir(), "mig-nats-"));
  const port = await freePort();
  const path = join(dir, "nats.conf");
  await writeFile(
    path,
    `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${dir}/store", max_mem: 268435456, max_file: 1073741824 }\n${more}\n`,
  );
  let child: ChildProcess | undefined;
  let said = "";
  const server: NatsServer = {
    url: `nats://127.0.0.1:${port}`,
    async start() {
      said = "";
      const started = spawn("nats-server", ["-c", path], { stdio: ["ignore", "ignore", "pipe"] });
      child = started;
      started.stderr.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      await waitFor("nats-server", () => {
        if (started.exitCode !== null) throw new Error(said.slice(-500));
        return said.includes("Server is ready");
      });
    },
    async kill() {
      const running = child;
      if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
      const ended = new Promise((resolve) => running.once("exit", resolve));
      running.kill("SIGKILL");
      await ended;
    },
    pause: () => void child?.kill("SIGSTOP"),
    resume: () => void child?.kill("SIGCONT"),
    async [Symbol.asyncDispose]() {
      await server.kill();
      await rm(dir, { recursive: true, force: true });
    },
  };
  await server.start();
  return server;
}
