import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { agentMessageToJson, asObject, type Command, natsNames } from "@mig/protocol";
import { hasNatsServer, type NatsServer, startNatsServer } from "@mig/sandbox";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import {
  type Authenticator,
  connect,
  jwtAuthenticator,
  type NatsConnection,
  nkeys,
} from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../apps/controller/tests/identity-lab.ts";
import { call } from "../apps/controller/tests/open-test-listeners.ts";
import { type ChosenLink, createChosenLink } from "../apps/miglet/src/link/choose-link.ts";
import { createHttpCalls } from "../apps/miglet/src/link/http-calls.ts";
import { Peer } from "./conformance/peer.ts";
import { type House, openHouse } from "./lib/house.ts";
import { type OperatedNats, startOperatedNats } from "./lib/nats-lab.ts";

/** VMs that have joined, on a NATS server that tells them apart by the credentials that the controller gave them. */
describe.skipIf(!hasNatsServer())("one VM and another on NATS", () => {
  const names = natsNames("mig");
  const stops: (() => Promise<unknown> | unknown)[] = [];
  let nats: OperatedNats;
  let lab: IdentityLab;
  let dir: string;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "mig-nats-test-"));
    stops.unshift(() => rm(dir, { recursive: true, force: true }));
    nats = await startOperatedNats(dir);
    stops.unshift(() => nats.server[Symbol.asyncDispose]());
    lab = await openIdentityLab({ flags: [...nats.flags], atEnd: (stop) => void stops.unshift(stop) });
  });
  afterAll(async () => {
    for (const stop of stops) await stop();
  });

  interface Vm {
    token: string;
    link: ChosenLink;
    commands: Command[];
    downs: string[];
    refusals: string[];
  }

  async function join_(vmId: string): Promise<string> {
    return (await lab.machine(vmId).join(await lab.joinToken())).body.access_token;
  }

  async function startVm(vmId: string): Promise<Vm> {
    const token = await join_(vmId);
    const bearer = async () => token;
    const about = { vmId, incarnation: "boot-1" };
    const http = createHttpCalls({ endpoint: lab.url, ...about, bearer, log: silentLog });
    const vm = { token, commands: [] as Command[], downs: [] as string[], refusals: [] as string[] };
    const link = createChosenLink(
      {
        channel: "nats",
        speaker: { ...about, poolId: "pool-a", version: "0.1.0", migletState: () => "idle" },
        http,
        bearer,
        grpcEndpoint: undefined,
        tls: async () => ({ ca: nats.ca }),
        nats: { prefix: "mig" },
        timing: { reconnectFirstMs: 50, reconnectCapMs: 400, natsPingMs: 300, answerMs: 1_500 },
        log: silentLog,
      },
      {
        onUp: () => {},
        onDown: (reason) => void vm.downs.push(reason.message),
        onCommand: (command) => void vm.commands.push(command),
        onGoAway: () => {},
        onRefused: ({ code }) => void vm.refusals.push(code),
      },
    );
    link.open();
    stops.unshift(() => http.close());
    stops.unshift(() => link.close());
    await waitFor("the link", () => link.channel() === "nats");
    return { ...vm, link };
  }

  const order = (vmId: string) =>
    lab.api("POST", `vms/${vmId}/commands`, { type: "set_log_level", parameters: { level: "debug" } });

  /** A connection of somebody's own making, with what the controller gave to a VM. */
  async function connectAs(authenticator: Authenticator, inboxPrefix?: string): Promise<NatsConnection> {
    const connection = await connect({
      servers: [`localhost:${new URL(nats.server.url).port}`],
      authenticator,
      tls: { ca: nats.ca },
      reconnect: false,
      ...(inboxPrefix === undefined ? {} : { inboxPrefix }),
    });
    stops.unshift(() => connection.close());
    return connection;
  }

  async function steal(
    vmId: string,
    token: string,
  ): Promise<{ connection: NatsConnection; errors: string[] }> {
    const key = nkeys.createUser();
    const { body } = await call(`${lab.url}/api/v1/vms/${vmId}/nats`, {
      json: { public_key: key.getPublicKey() },
      headers: { authorization: `Bearer ${token}` },
    });
    const peer = { vmId, identityEpoch: body.identity_epoch };
    const connection = await connectAs(jwtAuthenticator(body.jwt, key.getSeed()), names.inbox(peer));
    const errors: string[] = [];
    void (async () => {
      for await (const status of connection.status())
        if (status.type === "error") errors.push(status.error.message);
    })();
    return { connection, errors };
  }

  it("each lives with credentials of its own: a command comes, its answer and events go back", async () => {
    const { link, commands } = await startVm("vm-lives");
    expect((await lab.api("GET", "vms/vm-lives")).body).toMatchObject({ channel: "nats", org_id: "acme" });
    const { body } = await order("vm-lives");
    const command = await waitFor("the command", () => commands[0]);
    expect(command.id).toBe(body.id);
    await link.answer({ commandId: command.id, stage: "result", success: true });
    await waitFor("its end", async () => {
      const { state } = (await lab.api("GET", `commands/${body.id}`)).body;
      return state === "succeeded";
    });
  });

  it("nothing of another VM can be read, published, taken or changed", async () => {
    await startVm("vm-b");
    const { connection, errors } = await steal("vm-a", await join_("vm-a"));
    const b = { vmId: "vm-b", identityEpoch: 1 };
    const refusedPublish = [
      names.connect(b, "x"),
      names.live(b, "x"),
      names.up(b),
      names.up({ vmId: "vm-a", identityEpoch: 2 }),
      names.commands("vm-b", 1),
      names.down(b, "x"),
      `$JS.API.CONSUMER.MSG.NEXT.${names.commandStream}.vm-b`,
      `$JS.API.CONSUMER.INFO.${names.commandStream}.vm-b`,
      `$JS.API.CONSUMER.DELETE.${names.commandStream}.vm-b`,
      `$JS.API.CONSUMER.DURABLE.CREATE.${names.commandStream}.mine`,
      `$JS.API.STREAM.MSG.GET.${names.commandStream}`,
      `$JS.API.STREAM.PURGE.${names.upStream}`,
      `$JS.API.STREAM.DELETE.${names.upStream}`,
      `$JS.ACK.${names.commandStream}.vm-b.1.1.1.1.1`,
    ];
    for (const subject of refusedPublish) connection.publish(subject, "{}");
    const seen: string[] = [];
    const refusedSubscribe = [
      names.down(b, "*"),
      `${names.inbox(b)}.>`,
      "mig.>",
      names.commands("vm-b", "*"),
      "_INBOX.>",
    ];
    for (const subject of refusedSubscribe)
      connection.subscribe(subject, {
        callback: (_error, { subject: on } = { subject: "" } as never) => void seen.push(on),
      });
    await connection.flush();
    await waitFor("every refusal", () =>
      [...refusedPublish, ...refusedSubscribe].every((subject) =>
        errors.some((error) => error.includes(`"${subject}"`)),
      ),
    );
    await order("vm-b");
    await connection.flush();
    expect(seen.filter((subject) => subject !== "" && subject !== undefined)).toEqual([]);
  });

  it("a command that names another VM is skipped, though it lies in this one's box", async () => {
    const { commands } = await startVm("vm-astray");
    const admin = await connectAs(nats.admin);
    const { epoch } = (await lab.api("GET", "vms/vm-astray")).body;
    const body = { kind: "command", vm_id: "vm-b", id: "led-astray", type: "shutdown", parameters: {} };
    await jetstream(admin).publish(names.commands("vm-astray", epoch), JSON.stringify(body));
    await order("vm-astray");
    await waitFor("the VM's own", () => commands.length > 0);
    expect(commands.map(({ id }) => id)).not.toContain("led-astray");
  });

  it("what JetStream answers to a subject of a VM's choice does nothing to anybody else", async () => {
    const admin = await connectAs(nats.admin);
    const manager = await jetstreamManager(admin);
    const vm = await startVm("vm-led");
    await vm.link.close();
    const { epoch } = (await lab.api("GET", "vms/vm-led")).body;
    const { connection } = await steal("vm-led", vm.token);
    await jetstream(admin).publish(names.commands("vm-bystander", 1), "{}");
    for (let n = 0; n < 3; n += 1) await jetstream(admin).publish(names.commands("vm-led", epoch), "{}");
    const led: string[] = [];
    admin.subscribe("led.>", { callback: (_error, { subject }) => void led.push(subject) });
    await admin.flush();
    // The server does lead them to where the VM says, which the last of each shows, and what is in them is harmless.
    const box = `${names.commandStream}.${names.commandConsumer("vm-led")}`;
    const replies = ["PURGE", "DELETE"].map((verb) => `$JS.API.STREAM.${verb}.${names.commandStream}`);
    for (const [subject, last] of [
      [names.up({ vmId: "vm-led", identityEpoch: 1 }), "led.receipt"],
      [`$JS.API.CONSUMER.MSG.NEXT.${box}`, "led.command"],
    ] as const)
      for (const reply of [...replies, last]) connection.publish(subject, "", { reply });
    await waitFor(
      "the last of each",
      () => led.includes("led.receipt") && led.includes(names.commands("vm-led", epoch)),
    );
    const { state } = await manager.streams.info(names.commandStream, { subjects_filter: ">" });
    expect(state.subjects).toMatchObject({ [names.commands("vm-bystander", 1)]: 1 });
  });

  it("a revoked VM is cut at once and does not come back", async () => {
    const vm = await startVm("vm-revoked");
    const thief = await steal("vm-revoked", vm.token);
    const startedMs = performance.now();
    expect((await lab.api("DELETE", "vms/vm-revoked/identity")).status).toBeLessThan(300);
    await waitFor("the end", () => vm.downs.length > 0);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    await waitFor("the refusal", () => vm.refusals.includes("unauthenticated"));
    // NATS lets these credentials in until they expire; the controller takes nothing from them.
    const peer = { vmId: "vm-revoked", identityEpoch: 1 };
    const link = "a-link-of-the-thief";
    const answers: string[] = [];
    thief.connection.subscribe(names.down(peer, link), {
      callback: (_error, message) => void answers.push(message.string()),
    });
    const hello = { kind: "connect", vm_id: "vm-revoked", pool_id: "", protocol_version: 1 };
    thief.connection.publish(names.connect(peer, link), JSON.stringify(hello), {
      reply: names.down(peer, link),
    });
    await waitFor("the answer", () => answers.some((text) => text.includes("unauthenticated")));
  });
});

/** The channel and what befalls it, over a server without credentials: real processes. */
describe.skipIf(!hasNatsServer())("over NATS", () => {
  let nats: NatsServer;
  let house: House;
  beforeAll(async () => {
    nats = await startNatsServer();
    house = await openHouse({ moreArgs: ["--nats-url", nats.url] });
  });
  afterAll(async () => {
    await house[Symbol.asyncDispose]();
    await nats[Symbol.asyncDispose]();
  });

  it("a VM lives: its runner registers, it brings diagnostics by HTTP, and it is drained", async () => {
    await house.startVm("vm-lives", { channel: "nats" });
    expect(await house.until("vm-lives", "state", "idle")).toMatchObject({ channel: "nats" });
    const { id } = await house.order("vm-lives", "collect_diagnostics");
    await waitFor("the bundle", async () => {
      return (await house.api("GET", `commands/${id}`)).body["state"] === "succeeded";
    });
    expect((await house.api("GET", "vms/vm-lives/diagnostics")).body["diagnostics"]).toHaveLength(1);
    await house.order("vm-lives", "drain");
    await waitFor("the receipt", async () => {
      const { drained } = await house.vm("vm-lives");
      return asObject(drained)?.["drained"] === true;
    });
  });

  it("what the stream took while no controller was there is recorded later, and once", async () => {
    const peer = { vmId: "vm-away", identityEpoch: 0 };
    const connection = await connect({ servers: [new URL(nats.url).host] });
    house.controller.kill("SIGKILL");
    await house.controller.ended();
    const about = {
      vmId: "vm-away",
      poolId: "pool-a",
      incarnation: "boot-9",
      occurredAtMs: Date.now(),
      data: {},
    };
    const messages = ["vm_started", "job_heartbeat"].map((type, i) =>
      agentMessageToJson({ kind: "event", event: { ...about, type, seq: i + 1, eventId: `boot-9-${i}` } }),
    );
    for (let n = 0; n < 2; n += 1)
      await jetstream(connection).publish(natsNames("mig").up(peer), JSON.stringify(messages));
    await connection.close();
    await house.restartController();
    await waitFor("the events", async () => (await house.vm("vm-away"))["acked_seq"] === 2);
    const { events } = (await house.api("GET", "events?vm_id=vm-away")).body;
    expect(Array.isArray(events) && events.length).toBe(2);
  });

  it("a server that is killed, and one that stands still, cost a reconnect and no command", async () => {
    const peer = new Peer({ house }, "nats", "vm-broken", 700);
    await peer.connect();
    for (const how of ["kill", "pause"] as const) {
      await nats[how]();
      // A heartbeat is what the agent's watchdog goes by; the agent sends it by HTTP meanwhile.
      const beat = peer.link.sendHeartbeat(peer.beat("idle"));
      const { id } = await peer.order("set_log_level", { level: how === "kill" ? "debug" : "info" });
      await waitFor("the end of the link", () => peer.link.channel() === undefined);
      await beat.catch(() => {});
      await (how === "kill" ? nats.start() : nats.resume());
      const command = await peer.next();
      expect(command.id).toBe(id);
      await peer.link.answer({ commandId: command.id, stage: "result", success: true });
    }
    await peer.close();
  });
});
