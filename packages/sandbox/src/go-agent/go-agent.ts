import { spawn } from "node:child_process";
import { request } from "node:http";
import { hostname } from "node:os";
import { createInterface } from "node:readline";
import { Client, type ClientDuplexStream, credentials } from "@grpc/grpc-js";
import { commandService } from "@mig/protocol/grpc";
import { Wire } from "./wire.ts";

/**
 * An agent as it is on VMs today (reference/go-agent-wire.md §4–§7, §10): the Go predecessor's behaviour, faults
 * included, so that a controller which serves it serves them.
 *
 * - first contact is an HTTP heartbeat `connecting`; then, a fixed second later, it dials plaintext gRPC without
 *   credentials, calls itself ready, and its `ready` heartbeat still goes by HTTP because no stream is there yet
 * - it omits zero values; knows no event ids, no acknowledgements of events, no protocol version
 * - it obeys register_runner only while ready, acknowledges before it acts, and never answers a command again
 * - a stream that ends is opened again at once, without any backoff; after accepted=false it never dials again
 * - job ids are words of a log line; during a job miglet_state stays "idle"
 */
export interface GoAgentOptions {
  httpUrl: string;
  /** host:port */
  grpcTarget: string;
  vmId: string;
  poolId: string;
  orgId?: string;
  /** An installed runner; without one every registration succeeds and no job ever comes. */
  runnerDir?: string;
  /** 1 = the real waits (1 s, 5 s, 15 s). */
  timeFactor?: number;
  runnerEnv?: Readonly<Record<string, string>>;
}

export interface GoAgent {
  readonly state: () => string;
  readonly connects: () => number;
  /** SIGTERM: interrupts run.sh, half-closes the stream and leaves; the runner is orphaned if it does not listen. */
  stop(): Promise<void>;
}

export function startGoAgent(options: GoAgentOptions): GoAgent {
  const agent = new Agent(options);
  void agent.run();
  return { state: () => agent.state, connects: () => agent.connects, stop: () => agent.stop() };
}

class Agent {
  state = "initializing";
  connects = 0;
  readonly #options: GoAgentOptions;
  readonly #factor: number;
  readonly #end = new AbortController();
  #client: Client | undefined;
  #stream: ClientDuplexStream<Uint8Array, Uint8Array> | undefined;
  #ticker: NodeJS.Timeout | undefined;
  #runner: ReturnType<typeof spawn> | undefined;
  #runnerState = "offline";
  #job: { jobId: string; runId: string } | undefined;
  readonly #wire: Wire;

  constructor(options: GoAgentOptions) {
    this.#options = options;
    this.#factor = options.timeFactor ?? 1;
    this.#wire = new Wire(options);
  }

  async run(): Promise<void> {
    this.#move("connecting");
    this.#ticker = setInterval(() => this.#beat(), 15_000 * this.#factor);
    await this.#sleep(1_000);
    this.#client = new Client(this.#options.grpcTarget, credentials.createInsecure(), {
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 3_000,
      "grpc.keepalive_permit_without_calls": 1,
    });
    this.#move("ready");
    while (!this.#end.signal.aborted) {
      const mayRetry = await this.#liveOnOneStream(this.#client);
      if (!mayRetry) return;
      // The predecessor does not wait here at all; a millisecond keeps the test machine alive.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  async stop(): Promise<void> {
    this.#end.abort();
    clearInterval(this.#ticker);
    this.#runner?.kill("SIGINT");
    this.#stream?.end();
    this.#client?.close();
  }

  /** Answers false when the controller said accepted=false: then it never dials again. */
  #liveOnOneStream(client: Client): Promise<boolean> {
    const { path, requestSerialize, responseDeserialize } = commandService.streamCommands;
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    this.#stream = stream;
    this.connects += 1;
    stream.write(this.#wire.connect());
    return new Promise((resolve) => {
      stream.on("data", (bytes: Uint8Array) => {
        const message = this.#wire.read(bytes);
        if (message?.$case === "connectAck" && !message.value.accepted) resolve(false);
        if (message?.$case === "command") this.#obey(message.value);
      });
      const over = (): void => {
        if (this.#stream === stream) this.#stream = undefined;
        resolve(!this.#end.signal.aborted);
      };
      stream.on("error", over);
      stream.on("end", over);
    });
  }

  #obey(command: Parameters<Wire["ackOf"]>[0]): void {
    if (this.state !== "ready") return; // read into a channel that nobody drains (§5)
    const ack = this.#wire.ackOf(command);
    this.#stream?.write(ack.bytes);
    if (ack.register === undefined) return;
    this.#move("registering_runner");
    void this.#register(ack.register);
  }

  async #register(grant: { token: string; url: string; group: string; labels: string[] }): Promise<void> {
    await this.#sleep(500);
    const { runnerDir } = this.#options;
    if (runnerDir !== undefined) {
      const labels = grant.labels.length > 0 ? ["--labels", grant.labels.join(",")] : [];
      const group = grant.group === "" ? [] : ["--runnergroup", grant.group];
      const switches = ["--ephemeral", "--unattended", "--replace", ...group, ...labels];
      const code = await this.#run("./config.sh", ["--url", grant.url, "--token", grant.token, ...switches]);
      if (code !== 0) return this.#move("error");
      void this.#run("./run.sh", []).then((exit) => {
        this.#runnerState = "offline";
        if (exit !== 0) this.#event("runner_crashed", { reason: "process_exited" });
      });
    }
    this.#runnerState = "idle";
    this.#event("runner_registered", { runner_url: grant.url, runner_group: grant.group });
    this.#move("idle");
  }

  #run(program: string, args: string[]): Promise<number> {
    return new Promise((resolve) => {
      const child = spawn(program, args, {
        ...(this.#options.runnerDir === undefined ? {} : { cwd: this.#options.runnerDir }),
        env: { ...process.env, ...this.#options.runnerEnv },
        stdio: ["ignore", "pipe", "pipe"],
      });
      this.#runner = child;
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => this.#readLine(line));
      }
      child.on("error", () => resolve(127));
      child.on("exit", (code) => resolve(code ?? 1));
    });
  }

  /** Substring rules of the predecessor (§7), with their mistakes. */
  #readLine(line: string): void {
    const lower = line.toLowerCase();
    const word = (part: string): string => lower.split(" ").findLast((item) => item.includes(part)) ?? "";
    if (lower.includes("running job") || (lower.includes("job") && lower.includes("started"))) {
      this.#job = { jobId: word("job"), runId: word("run-") };
      this.#runnerState = "running";
      this.#event("job_started", { job_id: this.#job.jobId, run_id: this.#job.runId });
    } else if (lower.includes("job") && (lower.includes("completed") || lower.includes("finished"))) {
      const success = String(lower.includes("success"));
      this.#event("job_completed", { job_id: word("job"), run_id: word("run-"), success });
      this.#job = undefined;
      this.#runnerState = "idle";
    }
  }

  #move(state: string): void {
    this.state = state;
    this.#beat();
  }

  #beat(): void {
    const labels = [hostname()];
    if (this.#stream !== undefined) {
      this.#stream.write(this.#wire.heartbeat(this.state, this.#runnerState, labels, this.#job));
    } else this.#post("heartbeat", this.#wire.heartbeatBody(this.state, this.#runnerState));
  }

  #event(type: string, data: Record<string, string>): void {
    if (this.#stream !== undefined) this.#stream.write(this.#wire.event(type, data));
    else this.#post("events", this.#wire.eventBody(type, data));
  }

  /** One connection for each call, the answer never read: what is lost is lost. */
  #post(what: string, body: unknown): void {
    const call = request(new URL(`/api/v1/vms/${this.#options.vmId}/${what}`, this.#options.httpUrl), {
      method: "POST",
      agent: false,
      headers: {
        "content-type": "application/json",
        "user-agent": "Go-http-client/1.1",
        "accept-encoding": "gzip",
      },
    });
    call.on("error", () => {});
    call.on("response", (response) => response.destroy());
    call.end(JSON.stringify(body));
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms * this.#factor));
  }
}
