import { silentLog, uuid7, waitFor } from "@mig/kit";
import type { Command, CommandAnswer, Heartbeat, JsonObject, VmEvent } from "@mig/protocol";
import { type ChosenLink, createChosenLink } from "../../apps/miglet/src/link/choose-link.ts";
import { createHttpCalls, type HttpCalls } from "../../apps/miglet/src/link/http-calls.ts";
import type { Channel } from "../../apps/miglet/src/link/link.ts";
import { beatOf, eventOf } from "./messages.ts";
import { OrderedVm, patience } from "./ordered-vm.ts";
import { type Place, Roads } from "./roads.ts";

/** A channel, or the agent's choice among all. */
export type Way = "auto" | Channel;

/** A VM's side: the agent's own link code, driven by hand, on a network that can break. */
export class Peer extends OrderedVm {
  state = "idle";
  readonly way: Way;
  readonly #place: Place;
  readonly #answerMs: number;
  readonly #commands: Command[] = [];
  readonly #seen = new Set<string>();
  readonly #kin: Peer[] = [];
  #incarnation = `boot-${uuid7().slice(-12)}`;
  #link: ChosenLink | undefined;
  #http: HttpCalls | undefined;
  #roads: Roads | undefined;
  /** With `auto`: channels that were lost and do not come back. */
  readonly #closed = new Set<"nats" | "grpc">();
  /** The first end of its link is the last: what a process does whose place another has taken. */
  #yields = false;

  constructor(place: Place, way: Way, vmId: string, answerMs = 1_500) {
    super(place.house, vmId);
    this.#place = place;
    this.way = way;
    this.#answerMs = answerMs;
  }

  get link(): ChosenLink {
    if (this.#link === undefined) throw new Error(`${this.vmId} is not connected`);
    return this.#link;
  }

  async connect(): Promise<void> {
    const { vmId } = this;
    const incarnation = this.#incarnation;
    this.#roads ??= await Roads.open(this.#place);
    const endpoint = this.#roads.url("http") ?? "";
    const natsUrl = this.#roads.url("nats");
    const http = createHttpCalls({ endpoint, vmId, incarnation, log: silentLog });
    this.#http = http;
    const link = createChosenLink(
      {
        channel: this.way,
        speaker: {
          vmId,
          poolId: "pool-a",
          orgId: "acme",
          incarnation,
          version: "0.1.0",
          migletState: () => this.state,
        },
        http,
        httpEndpoint: endpoint,
        grpcEndpoint: this.#roads.url("grpc"),
        ...(natsUrl === undefined && this.way !== "nats"
          ? {}
          : { nats: { prefix: "mig", ...(natsUrl === undefined ? {} : { urls: [natsUrl] }) } }),
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
        onDown: () => {
          if (this.#yields) void link.close();
        },
        onCommand: (command) => void this.#commands.push(command),
        onGoAway: () => {},
        onRefused: () => {},
      },
    );
    this.#link = link;
    link.open();
    const best = natsUrl === undefined ? "grpc" : "nats";
    await waitFor(
      `the ${this.way} channel of ${vmId}`,
      () => link.channel() === (this.way === "auto" ? best : this.way),
      patience,
    );
  }

  /** Everything that is open breaks, and nothing new opens until `heal`. */
  loseNetwork(): void {
    const channel = this.#link?.channel();
    if (this.way === "auto" && (channel === "nats" || channel === "grpc")) this.#closed.add(channel);
    this.#roads?.each((network) => network.shut());
  }

  /** From now on what goes in this direction is lost, though connections stay open. */
  loseWhatGoes(direction: "up" | "down"): void {
    this.#roads?.each((network) => network.swallow(direction));
  }

  /** The VM reads no more; what is sent to it piles up. */
  stopReading(): void {
    this.#roads?.each((network) => network.stall("down"));
  }

  /**
   * Whole again. With `auto` a channel that was lost stays closed: whatever a scenario says of a reconnect, it says there
   * of a change to the next channel.
   */
  heal(): void {
    this.#roads?.each((network) => network.heal());
    for (const road of this.#closed) this.#roads?.only(road).shut();
  }

  /** Every connection breaks, and new ones open at once. */
  cut(): void {
    this.loseNetwork();
    this.heal();
  }

  async disconnect(): Promise<void> {
    const link = this.#link;
    this.#link = undefined;
    await link?.close();
    this.#http?.close();
    this.forget();
  }

  async close(): Promise<void> {
    await Promise.all(this.#kin.map((peer) => peer.close()));
    await this.disconnect();
    await this.#roads?.close();
    this.#roads = undefined;
  }

  /** What was delivered before counts as new when it comes again. */
  forget(): void {
    this.#commands.length = 0;
    this.#seen.clear();
  }

  /** From now on it speaks as another boot of the same VM. */
  reboot(): void {
    this.#incarnation = `boot-${uuid7().slice(-12)}`;
  }

  /** Another VM over the same channel. */
  neighbour(): Peer {
    return this.#keep(new Peer(this.#place, this.way, `${this.vmId}-next`));
  }

  /** The same VM and boot on a second connection; this one gives way as soon as it is told to. */
  twin(): Peer {
    this.#yields = true;
    const twin = new Peer(this.#place, this.way, this.vmId);
    twin.#incarnation = this.#incarnation;
    return this.#keep(twin);
  }

  #keep(peer: Peer): Peer {
    this.#kin.push(peer);
    return peer;
  }

  event(seq: number, type: string, data: JsonObject = {}): VmEvent {
    return eventOf(this.vmId, this.#incarnation, seq, type, data);
  }

  beat(migletState: string): Heartbeat {
    return beatOf(this.vmId, this.#incarnation, migletState);
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
      patience,
    );
    return mark;
  }

  /** The next command that arrives and has not been seen; over polling one comes again until it is acknowledged. */
  async next(): Promise<Command> {
    const command = await waitFor(`a command for ${this.vmId}`, () => this.#unseen()[0], patience);
    this.#seen.add(command.id);
    return command;
  }

  waiting(): number {
    return this.#unseen().length;
  }

  #unseen(): Command[] {
    return this.#commands.filter((command) => !this.#seen.has(command.id));
  }

  receive({ id }: { id: string }): Promise<void> {
    return this.link.answer({ commandId: id, stage: "received", success: true });
  }

  finish({ id }: { id: string }, more: Partial<CommandAnswer> = {}): Promise<void> {
    return this.link.answer({ commandId: id, stage: "result", success: true, ...more });
  }
}
