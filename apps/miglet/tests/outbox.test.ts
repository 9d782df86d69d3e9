import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type Command, type CommandAnswer, type EventAck, firstSeqOf, type VmEvent } from "@mig/protocol";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createInbox } from "../src/link/inbox.ts";
import { createOutbox, type Outbox } from "../src/link/outbox.ts";
import { openCommandJournal } from "../src/memory/command-journal.ts";
import { openSpool, type Spool } from "../src/memory/spool.ts";
import { sayLastWords } from "../src/shutdown/last-words.ts";
import { speaker } from "./link-lab.ts";

let root: string;
const opened: { close(): Promise<void> }[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-outbox-"));
});
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
  await rm(root, { recursive: true, force: true });
});

/** A controller that keeps the rules of the wire: stores in order, refuses gaps, takes what it has as a duplicate. */
class Store {
  stored: VmEvent[] = [];
  upToSeq = 0;
  refuse: (event: VmEvent) => boolean = () => false;
  take(events: readonly VmEvent[]): EventAck {
    const rejected: EventAck["rejected"] = [];
    for (const event of events) {
      const seq = event.seq ?? 0;
      if (seq <= this.upToSeq) continue;
      if ((firstSeqOf(event) ?? seq) > this.upToSeq + 1) {
        rejected.push({ seq, code: "out_of_order", message: "gap", permanent: false });
        continue;
      }
      if (this.refuse(event))
        rejected.push({ seq, code: "invalid_request", message: "poison", permanent: true });
      else this.stored.push(event);
      this.upToSeq = seq;
    }
    return { incarnation: events[0]?.incarnation ?? "", upToSeq: this.upToSeq, rejected };
  }
}

async function make(
  send: (events: readonly VmEvent[]) => Promise<EventAck>,
  leftovers: Spool[] = [],
): Promise<{ outbox: Outbox; spool: Spool }> {
  const spool = await openSpool({ directory: await mkdtemp(join(root, "s-")), log: silentLog });
  const deadLetterPath = join(root, "dead.jsonl");
  const outbox = createOutbox({
    speaker,
    spool,
    leftovers,
    send,
    deadLetterPath,
    retryFirstMs: 5,
    retryCapMs: 20,
    log: silentLog,
  });
  opened.push(spool, outbox);
  return { outbox, spool };
}

const unreachable = () => new MigError("controller_unreachable", "down");

test("whatever the link loses, every event is stored once and in order", async () => {
  const fate = fc.constantFrom("fine", "lost", "answer lost", "half", "forgets");
  await fc.assert(
    fc.asyncProperty(
      fc.array(fate, { maxLength: 12 }),
      fc.integer({ min: 1, max: 30 }),
      async (fates, count) => {
        const store = new Store();
        const left = [...fates];
        const { outbox } = await make(async (events) => {
          const now = left.shift() ?? "fine";
          if (now === "lost") throw unreachable();
          if (now === "half") return store.take(events.slice(0, Math.ceil(events.length / 2)));
          const ack = store.take(now === "forgets" ? events.slice(-1) : events);
          if (now === "answer lost") throw unreachable();
          return ack;
        });
        for (let n = 1; n <= count; n += 1) await outbox.append("job_heartbeat", { n });
        expect(await outbox.flush(3000)).toBe(true);
        expect(store.stored.map((event) => event.data["n"])).toEqual(
          Array.from({ length: count }, (_, n) => n + 1),
        );
        await outbox.close();
      },
    ),
    { numRuns: 25 },
  );
});

test("what was left of an earlier incarnation goes first, in its own batch", async () => {
  const old = await openSpool({ directory: join(root, "old-incarnation"), log: silentLog });
  opened.push(old);
  await old.append({
    type: "job_completed",
    vmId: "vm-1",
    poolId: "p",
    incarnation: "old-incarnation",
    occurredAtMs: 1,
    data: {},
  });
  const batches: string[] = [];
  const { outbox } = await make(
    async (events) => {
      batches.push(events.map((one) => `${one.incarnation} ${one.type}`).join());
      return { incarnation: events[0]?.incarnation ?? "", upToSeq: events.at(-1)?.seq ?? 0, rejected: [] };
    },
    [old],
  );
  await outbox.append("vm_started", {});
  await outbox.flush(2000);
  expect(batches).toEqual(["old-incarnation job_completed", "boot-install vm_started"]);
});

test("an event that is refused for good goes to the dead-letter file and holds nobody up", async () => {
  const store = new Store();
  store.refuse = (event) => event.data["n"] === 2;
  const { outbox } = await make(async (events) => store.take(events));
  for (let n = 1; n <= 3; n += 1) await outbox.append("error", { n });
  expect(await outbox.flush(2000)).toBe(true);
  expect(store.stored.map((event) => event.data["n"])).toEqual([1, 3]);
  expect(JSON.parse(await readFile(join(root, "dead.jsonl"), "utf8"))).toMatchObject({
    rejection: { code: "invalid_request" },
    event: { data: { n: 2 } },
  });
});

test("a controller that forgot acknowledged events is told so, and goes on", async () => {
  let store = new Store();
  const { outbox } = await make(async (events) => store.take(events));
  for (let n = 1; n <= 3; n += 1) await outbox.append("error", { n });
  await outbox.flush(2000);
  store = new Store();
  await outbox.append("error", { n: 4 });
  expect(await outbox.flush(2000)).toBe(true);
  expect(store.stored.map((event) => `${event.seq} ${event.type}`)).toEqual(["3 events_dropped", "4 error"]);
});

test("a server's hint is not cut short, and the last words are the last events", async () => {
  const store = new Store();
  let busyUntilMs = 0;
  const { outbox } = await make(async (events) => {
    if (busyUntilMs === 0) {
      busyUntilMs = performance.now() + 150;
      throw new MigError("rate_limited", "slow down", { retryAfterMs: 150 });
    }
    expect(performance.now()).toBeGreaterThanOrEqual(busyUntilMs - 2);
    return store.take(events);
  });
  await outbox.append("job_completed", {});
  await waitFor("the first try", () => busyUntilMs > 0);
  outbox.wake();
  expect(await sayLastWords(outbox, { reason: "test", exitCode: 0 }, 2000)).toBe(true);
  expect(store.stored.map((event) => event.type)).toEqual([
    "job_completed",
    "vm_shutting_down",
    "vm_terminated",
  ]);
});

test("an event with a mebibyte of data is cut to what a message can carry", async () => {
  const store = new Store();
  const { outbox } = await make(async (events) => store.take(events));
  await outbox.append("error", { code: "x", message: "m".repeat(1024 * 1024) });
  await outbox.flush(2000);
  expect(store.stored[0]?.data).toMatchObject({ code: "x", truncated_bytes: expect.any(Number) });
});

test("a command acts once, whatever is delivered again, also after a restart", async () => {
  const path = join(root, "commands.jsonl");
  const sent: CommandAnswer[] = [];
  const open = async () => {
    const journal = await openCommandJournal(path, silentLog);
    opened.push(journal);
    return createInbox({ journal, log: silentLog, answer: async (answer) => void sent.push(answer) });
  };
  const command: Command = { id: "c-1", type: "drain", parameters: {}, createdAtMs: 1, attempt: 1 };
  const first = await open();
  expect(await first.admit(command)).toBe("new");
  expect(await first.admit(command)).toBe("handled");
  await first.receive(command);
  expect(await first.admit({ ...command, attempt: 2 })).toBe("handled");
  expect(sent.map((one) => one.stage)).toEqual(["received", "received"]);

  const second = await open();
  expect(second.interrupted()).toEqual([{ id: "c-1", type: "drain" }]);
  expect(await second.admit(command)).toBe("handled");
  await second.finish("c-1", { success: true, result: { drained: true } });
  expect(second.interrupted()).toEqual([]);
  const third = await open();
  expect(await third.admit(command)).toBe("handled");
  expect(sent.at(-1)).toEqual({
    commandId: "c-1",
    stage: "result",
    success: true,
    result: { drained: true },
  });

  expect(await third.admit({ ...command, id: "late", expiresAtMs: 5 })).toBe("handled");
  expect(sent.at(-1)).toMatchObject({ commandId: "late", success: false, result: { refused: true } });
});

test("a result that was lost with its channel or its process is said again when a channel opens, once", async () => {
  const path = join(root, "repeat.jsonl");
  const heard: CommandAnswer[] = [];
  const openInbox = async (takesAnswers: boolean) => {
    const journal = await openCommandJournal(path, silentLog);
    opened.push(journal);
    return createInbox({
      journal,
      answer: async (answer) => void (takesAnswers && heard.push(answer)),
      log: silentLog,
    });
  };
  const command: Command = { id: "c-1", type: "drain", parameters: {}, createdAtMs: 0, attempt: 1 };
  const killed = await openInbox(false);
  await killed.admit(command);
  await killed.receive(command);
  await killed.finish("c-1", { success: true, result: { drained: true } });
  const next = await openInbox(true);
  await next.repeatResults();
  await next.repeatResults();
  expect(heard).toMatchObject([{ commandId: "c-1", stage: "result", result: { drained: true } }]);
});
