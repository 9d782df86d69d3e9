import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, silentLog, systemClock, waitFor } from "@mig/kit";
import type { Command, CommandAnswer } from "@mig/protocol";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { createChosenLink } from "../src/link/choose-link.ts";
import { type ControllerClockSettings, createControllerClock } from "../src/link/controller-clock.ts";
import { createInbox } from "../src/link/inbox.ts";
import { openCommandJournal } from "../src/memory/command-journal.ts";
import { accepted, friendly, httpCalls, quick, speaker, startGrpcLab, startHttpLab } from "./link-lab.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
const dayMs = 86_400_000;
const trueMs = Date.UTC(2026, 5, 1);

/** A VM whose clock is `offMs` ahead; `pass` lets true time go by, `step` sets the VM's clock. */
function vm(offMs: number, settings: Omit<ControllerClockSettings, "clock"> = {}) {
  let passedMs = 0;
  let wrongMs = offMs;
  const clock: Clock = {
    nowMs: () => trueMs + passedMs + wrongMs,
    monotonicMs: () => 5000 + passedMs,
    after: () => () => {},
  };
  const controllerClock = createControllerClock({ ...settings, clock });
  return {
    clock,
    controllerClock,
    truth: () => trueMs + passedMs,
    pass: (ms: number) => {
      passedMs += ms;
    },
    step: (ms: number) => {
      wrongMs += ms;
    },
    /** An exchange in which the server looks at its clock after `thereMs`. */
    exchange(thereMs: number, backMs: number) {
      const sentAtMs = clock.monotonicMs();
      passedMs += thereMs;
      const serverMs = trueMs + passedMs;
      passedMs += backMs;
      controllerClock.note(sentAtMs, serverMs);
    },
  };
}

test("however wrong the VM's clock and however slow the way, the error is within half of the best round trip and drift", () => {
  const way = fc.integer({ min: 0, max: 20_000 });
  fc.assert(
    fc.property(
      fc.integer({ min: -400 * dayMs, max: 400 * dayMs }),
      fc.array(
        fc.record({ there: way, back: way, pass: way, step: fc.integer({ min: -dayMs, max: dayMs }) }),
        { minLength: 1 },
      ),
      (offMs, exchanges) => {
        const one = vm(offMs);
        let boundMs = Number.POSITIVE_INFINITY;
        for (const { there, back, pass, step } of exchanges) {
          boundMs += 0.05 * (there + back);
          one.exchange(there, back);
          boundMs = Math.min(boundMs, (there + back) / 2);
          one.pass(pass);
          boundMs += 0.05 * pass;
          one.step(step);
          const errorMs = one.controllerClock.nowMs() - one.truth();
          expect(Math.abs(errorMs)).toBeLessThanOrEqual(boundMs + 1);
          expect(one.controllerClock.skewMs()).toBe(
            Math.round(one.clock.nowMs() - one.controllerClock.nowMs()),
          );
        }
      },
    ),
  );
});

test("without a sample the VM's own clock counts; a server without a time, or with a mad one, is no sample", () => {
  const one = vm(3 * dayMs);
  for (const mad of [0, -1, 1, Number.NaN, Number.POSITIVE_INFINITY])
    one.controllerClock.note(one.clock.monotonicMs(), mad);
  one.controllerClock.note(one.clock.monotonicMs() + 1000, trueMs);
  expect(one.controllerClock.skewMs()).toBeUndefined();
  expect(one.controllerClock.nowMs()).toBe(one.clock.nowMs());
});

test("a clock that is off is told once, told again when it moves by as much, and told when it is right", () => {
  const told: { skewMs: number; isOff: boolean }[] = [];
  const one = vm(0, { onSkew: (skew) => void told.push(skew) });
  const beat = (): void => {
    one.exchange(10, 10);
    one.pass(15_000);
  };
  for (let n = 0; n < 3; n += 1) beat();
  one.step(59_000);
  beat();
  expect(told).toEqual([]);
  one.step(11_000);
  for (let n = 0; n < 5; n += 1) beat();
  expect(told).toMatchObject([{ skewMs: 70_000, isOff: true }]);
  one.step(-20_000); // 50 s: between half and whole of what is tolerated nothing changes
  beat();
  one.step(3 * dayMs);
  beat();
  beat();
  one.step(-3 * dayMs - 50_000);
  beat();
  beat();
  expect(told.map(({ isOff }) => isOff)).toEqual([true, true, false]);
});

/** The agent's clock is `offMs` wrong, and the controller's is this machine's. */
const wrongClock = (offMs: number): Clock => ({ ...systemClock, nowMs: () => Date.now() + offMs });

test.each([3 * dayMs, -3 * dayMs])(
  "with a VM clock %d ms off a fresh command is taken and an expired one is not, from the first command on",
  async (offMs) => {
    const clock = wrongClock(offMs);
    const directory = await mkdtemp(join(tmpdir(), "mig-clock-"));
    closers.push(() => rm(directory, { recursive: true, force: true }));
    const journal = await openCommandJournal(join(directory, "commands"), silentLog);
    closers.push(() => journal.close());
    const controllerClock = createControllerClock({ clock });
    const answers: CommandAnswer[] = [];
    const inbox = createInbox({
      journal,
      answer: async (answer) => void answers.push(answer),
      log: silentLog,
      clock: controllerClock,
    });
    const verdicts: Record<string, string> = {};
    const commandOf = (id: string, expiresAtMs: number): Command => ({
      id,
      type: "drain",
      parameters: {},
      createdAtMs: Date.now() - 120_000,
      expiresAtMs,
      attempt: 1,
    });
    const lab = await startGrpcLab((message, stream) => {
      if (message.kind !== "connect") return friendly(message, stream);
      stream.say({ kind: "connect_ack", reply: { ...accepted, serverTimeMs: Date.now() } });
      stream.say({ kind: "command", command: commandOf("fresh", Date.now() + 60_000) });
      stream.say({ kind: "command", command: commandOf("late", Date.now() - 60_000) });
    });
    closers.push(() => lab.close());
    const link = createChosenLink(
      {
        channel: "grpc",
        speaker,
        http: undefined,
        grpcEndpoint: lab.endpoint,
        controllerClock,
        clock,
        timing: quick,
        log: silentLog,
      },
      {
        onUp: () => {},
        onDown: () => {},
        onGoAway: () => {},
        onRefused: () => {},
        onCommand: (command) =>
          void inbox.admit(command).then((verdict) => {
            verdicts[command.id] = verdict;
          }),
      },
    );
    closers.push(() => link.close());
    link.open();
    await waitFor("verdicts", () => Object.keys(verdicts).length === 2);
    expect(verdicts).toEqual({ fresh: "new", late: "handled" });
    expect(answers).toMatchObject([{ commandId: "late", success: false, result: { refused: true } }]);
    expect(Math.abs((controllerClock.skewMs() ?? 0) - offMs)).toBeLessThan(2000);
  },
);

test("by HTTP the header Date gives the time before any command, and heartbeats a better one", async () => {
  const http = await startHttpLab(({ url }) => ({
    body: url.endsWith("/heartbeat")
      ? { next_interval_ms: 5000, server_time_ms: Date.now() }
      : { commands: [] },
  }));
  closers.push(() => http.close());
  const offMs = -3 * dayMs;
  const controllerClock = createControllerClock({ clock: wrongClock(offMs) });
  const calls = httpCalls(http.endpoint, { controllerClock, clock: wrongClock(offMs) });
  closers.push(() => calls.close());
  await calls.getCommands(0, "ready", new AbortController().signal);
  expect(Math.abs((controllerClock.skewMs() ?? 0) - offMs)).toBeLessThan(2000);
  await calls.postHeartbeat({ vmId: "vm-1", poolId: "pool-1", sentAtMs: 1 });
  expect(Math.abs((controllerClock.skewMs() ?? 0) - offMs)).toBeLessThan(500);
});

test("a date in Retry-After is read by the server's own clock", async () => {
  const http = await startHttpLab(() => ({
    status: 503,
    headers: { date: "Mon, 01 Jan 2035 00:00:00 GMT", "retry-after": "Mon, 01 Jan 2035 00:00:07 GMT" },
  }));
  closers.push(() => http.close());
  const calls = httpCalls(http.endpoint);
  closers.push(() => calls.close());
  await expect(calls.requestRegistrationToken({})).rejects.toMatchObject({ retryAfterMs: 7000 });
});
