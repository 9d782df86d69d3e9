import { silentLog, uuid7, waitFor } from "@mig/kit";
import {
  asObject,
  type Command,
  type Heartbeat,
  type JsonObject,
  type Unknown,
  type VmEvent,
} from "@mig/protocol";
import { type ChosenLink, createChosenLink } from "../../apps/miglet/src/link/choose-link.ts";
import { createHttpCalls, type HttpCalls } from "../../apps/miglet/src/link/http-calls.ts";
import type { Channel } from "../../apps/miglet/src/link/link.ts";
import type { House } from "../lib/house.ts";

/** The controller's side of a scenario. */
export interface Stage {
  restart(): Promise<void>;
}

/** A VM's side: the agent's own link code, driven by hand. */
export class Peer {
  state = "idle";
  readonly vmId: string;
  readonly #house: House;
  readonly #channel: Channel;
  readonly #answerMs: number;
  readonly #commands: Command[] = [];
  readonly #seen = new Set<string>();
  #incarnation = `boot-${uuid7().slice(-12)}`;
  #link: ChosenLink | undefined;
  #http: HttpCalls | undefined;

  constructor(house: House, channel: Channel, vmId: string, incarnation?: string, answerMs = 10_000) {
    this.vmId = vmId;
    this.#house = house;
    this.#channel = channel;
    this.#answerMs = answerMs;
    this.#incarnation = incarnation ?? this.#incarnation;
  }

  get link(): ChosenLink {
    if (this.#link === undefined) throw new Error(`${this.vmId} is not connected`);
    return this.#link;
  }

  async connect(): Promise<void> {
    const { vmId } = this;
    const incarnation = this.#incarnation;
    const http = createHttpCalls({ endpoint: this.#house.url, vmId, incarnation, log: silentLog });
    this.#http = http;
    const link = createChosenLink(
      {
        channel: this.#channel,
        speaker: {
          vmId,
          poolId: "pool-a",
          orgId: "acme",
          incarnation,
          version: "0.1.0",
          migletState: () => this.state,
        },
        http,
        httpEndpoint: this.#house.url,
        grpcEndpoint: this.#house.url,
        ...(this.#channel === "nats" ? { nats: { prefix: "mig" } } : {}),
        timing: {
          reconnectFirstMs: 50,
          reconnectCapMs: 400,
          pollWaitMs: 2_000,
          pollPauseMs: 20,
          natsPingMs: 500,
          answerMs: this.#answerMs,
        },
        log: silentLog,
      },
      {
        onUp: () => {},
        onDown: () => {},
        onCommand: (command) => void this.#commands.push(command),
        onGoAway: () => {},
        onRefused: () => {},
      },
    );
    this.#link = link;
    link.open();
    await waitFor(`the ${this.#channel} channel of ${vmId}`, () => link.channel() === this.#channel);
  }

  async disconnect(): Promise<void> {
    await this.#link?.close();
    this.#http?.close();
    this.#link = undefined;
    this.forget();
  }

  /** What was delivered before counts as new when it comes again. */
  forget(): void {
    this.#commands.length = 0;
    this.#seen.clear();
  }

  close(): Promise<void> {
    return this.disconnect();
  }

  /** From now on it speaks as another boot of the same VM. */
  reboot(): void {
    this.#incarnation = `boot-${uuid7().slice(-12)}`;
  }

  /** The same VM and boot on a second connection, as after a half-dead one. */
  async twin(): Promise<Peer> {
    const twin = new Peer(this.#house, this.#channel, this.vmId, this.#incarnation);
    await this.#link?.close();
    await twin.connect();
    return twin;
  }

  event(seq: number, type: string, data: JsonObject = {}): VmEvent {
    return {
      type,
      vmId: this.vmId,
      poolId: "pool-a",
      orgId: "acme",
      occurredAtMs: Date.now(),
      eventId: `${this.#incarnation}-${seq}`,
      seq,
      incarnation: this.#incarnation,
      data,
    };
  }

  beat(migletState: string): Heartbeat {
    return {
      vmId: this.vmId,
      poolId: "pool-a",
      orgId: "acme",
      incarnation: this.#incarnation,
      migletState,
      sentAtMs: Date.now(),
      health: {
        cpuUsagePercent: 1,
        cpuLoad: 0.5,
        memoryUsedBytes: 1,
        memoryTotalBytes: 2,
        diskUsedBytes: 3,
        diskTotalBytes: 4,
      },
      runner: {
        state: migletState === "idle" ? "idle" : "offline",
        configured: migletState === "idle",
        labels: [],
      },
    };
  }

  /** Sends until all are acknowledged, from the mark each time, as the outbox does; answers the mark. */
  async sendAll(events: VmEvent[]): Promise<number> {
    const last = events.at(-1)?.seq ?? 0;
    let mark = 0;
    await waitFor(
      `seq ${last} to be acknowledged`,
      async () => {
        const left = events.filter((event) => (event.seq ?? 0) > mark);
        if (left.length > 0) mark = Math.max(mark, (await this.link.sendEvents(left)).upToSeq);
        return mark >= last;
      },
      { timeoutMs: 15_000 },
    );
    return mark;
  }

  /** The next command that arrives and has not been seen; over polling one comes again until it is acknowledged. */
  async next(timeoutMs = 8_000): Promise<Command> {
    const command = await waitFor(`a command for ${this.vmId}`, () => this.#unseen()[0], { timeoutMs });
    this.#seen.add(command.id);
    return command;
  }

  waiting(): number {
    return this.#unseen().length;
  }

  #unseen(): Command[] {
    return this.#commands.filter((command) => !this.#seen.has(command.id));
  }

  async view(): Promise<Unknown> {
    return this.#house.vm(this.vmId);
  }

  async command(id: string): Promise<Unknown> {
    return (await this.#house.api("GET", `commands/${id}`)).body;
  }

  async order(type: string, parameters: JsonObject = {}): Promise<Unknown> {
    return asObject(await this.#house.order(this.vmId, type, parameters)) ?? {};
  }
}
