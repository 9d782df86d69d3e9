import { agentMoves, agentStates, mayMove } from "@mig/lifecycle";
import { commandTypes, type JsonObject } from "@mig/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { begin } from "./life/resume.ts";
import type { Effect, Found, Input, Rules, State } from "./life/words.ts";
import { step } from "./life.ts";

const rules: Rules = {
  vmId: "vm-1",
  labels: [],
  reuse: false,
  heartbeatIntervalMs: 15_000,
  logLevel: "info",
  registrationsMax: 3,
  retryFirstMs: 1_000,
  retryCapMs: 30_000,
  listenWithinMs: 300_000,
  forceAfterMs: 300_000,
  graceMs: 30_000,
  idleMs: 0,
  aloneMs: 3_600_000,
};
const newborn: Found = {
  resumed: false,
  lastState: "initializing",
  draining: false,
  interrupted: [],
  problems: [],
};

let commands = 0;
/** The newest that asks for a bundle: its outcome can come at any time. */
let lastCollect = "";
const command = (type: string, parameters: JsonObject = {}): Input & { on: "command" } => {
  commands += 1;
  if (type === "collect_diagnostics") lastCollect = `c-${commands}`;
  return { on: "command", command: { id: `c-${commands}`, type, parameters, createdAtMs: 0, attempt: 1 } };
};
const collected = (commandId: string, outcome = { success: true, result: { bytes: 9 } }): Input => ({
  on: "collected",
  commandId,
  outcome,
});
const grant = { registration_token: "t", runner_url: "https://github.test/acme", runner_name: "r-1" };
const job = { jobId: "build", runId: "7" };
const byMetadata: Rules = { ...rules, fromMetadataMs: 15_000 };
const inMetadata = (id: string, parameters: JsonObject = grant): Input => ({
  on: "grant_read",
  grant: { is: "found", id, parameters },
});
const exit = { meaning: "done", ranJob: true, message: "It ended." } as const;
const observed = (observation: (Input & { on: "observed" })["observation"]): Input => ({
  on: "observed",
  observation,
});
const completed = observed({
  kind: "job_completed",
  job,
  result: "succeeded",
  source: "hook",
  confidence: "certain",
});
const started = observed({ kind: "job_started", job, source: "hook", confidence: "certain" });

/** From birth through these inputs. */
function live(inputs: readonly Input[], found: Found = newborn, by: Rules = rules) {
  const first = begin(found, by);
  const told = {
    state: first.state as State,
    effects: [...first.effects] as Effect[],
    last: [...first.effects] as Effect[],
  };
  for (const input of inputs) {
    const next = step(told.state, input);
    told.state = next.state;
    told.last = [...next.effects];
    told.effects.push(...next.effects);
  }
  const emitted = told.effects.flatMap((effect) => (effect.do === "emit" ? [effect.type] : []));
  const finished = told.effects.flatMap((effect) => (effect.do === "finish" ? [effect] : []));
  const does = (what: Effect["do"]): boolean => told.last.some((effect) => effect.do === what);
  return { ...told, emitted, finished, does };
}

const ready: Input[] = [{ on: "checked" }, { on: "announced" }, { on: "link_up" }];
const registering = (): Input[] => [...ready, command("register_runner", grant)];
const idle = (): Input[] => [...registering(), observed({ kind: "listening" })];
const working = (): Input[] => [...idle(), observed({ kind: "job_assigned", source: "stdout" }), started];

/** One way into each state, and into each phase that behaves differently. */
const ways: Record<string, () => Input[]> = {
  initializing: () => [],
  waiting_for_controller: () => [{ on: "checked" }],
  ready: () => ready,
  registering_runner: registering,
  "registering_runner, giving up": () => [...registering(), { on: "timer", timer: "listen" }],
  "registering_runner, pausing": () => [...registering(), failedTry],
  idle,
  job_running: working,
  draining: () => [...idle(), command("drain")],
  "draining, busy": () => [
    ...working(),
    command("drain"),
    { on: "runner_drained", outcome: { kind: "busy" } },
  ],
  "shutting_down, stopping": () => [...working(), command("shutdown", { force: true })],
  "shutting_down, last words": () => [...ready, command("shutdown")],
  "shutting_down, over": () => [...ready, command("shutdown"), { on: "last_words_said" }],
  error: () => [{ on: "checked", problem: { code: "prerequisite_missing", message: "No disk." } }],
};
const failedTry: Input = {
  on: "runner_failed",
  problem: { code: "runner_configure_failed", message: "GitHub said 500." },
  isRetryable: true,
};

const preempted: Input = {
  on: "preempted",
  notice: { cloud: "gcp", action: "preempted", deadlineMs: 30_000 },
};
const diskLow: Input = { on: "low", resource: "disk", freeMib: 12, neededMib: 256 };

/** One of each input, and each command in its variants. */
const inputs: (() => Input)[] = [
  () => preempted,
  () => diskLow,
  () => ({ on: "checked" }),
  () => ({ on: "checked", problem: { code: "prerequisite_missing", message: "No disk." } }),
  () => ({ on: "announced" }),
  () => ({ on: "link_up" }),
  () => ({ on: "link_down" }),
  ...(
    ["controller_refused", "incarnation_lost", "unauthenticated", "forbidden", "settings_invalid"] as const
  ).map((code) => (): Input => ({ on: "refused", refusal: { code, message: "No." } })),
  ...commandTypes.map((type) => () => command(type)),
  () => command("register_runner", grant),
  () => command("register_runner", { jit_config: "e30=" }),
  () => command("drain", { registration: "removed" }),
  () => command("shutdown", { immediate: true }),
  () => command("set_log_level", { level: "debug" }),
  () => command("update_config", { heartbeat_interval: "30s", log_level: "warn" }),
  () => command("collect_diagnostics", { reason: "hangs", max_bytes: 65_536 }),
  () => collected(lastCollect),
  () => collected("of a life before"),
  () => command("dance"),
  () => inMetadata("g-1"),
  () => inMetadata("g-2", { jit_config: "e30=" }),
  () => inMetadata("g-3", {}),
  () => ({ on: "grant_read", grant: { is: "absent" } }),
  () => ({ on: "grant_read", grant: { is: "bad", message: "It is no token." } }),
  () => ({ on: "runner_started", runner: { name: "r-1", id: 7, labels: [] } }),
  () => failedTry,
  () => ({ ...failedTry, isRetryable: false }),
  () => observed({ kind: "listening" }),
  () => observed({ kind: "job_assigned", source: "worker" }),
  () => started,
  () => observed({ kind: "job_identified", job }),
  () => observed({ kind: "job_finishing" }),
  () => completed,
  ...(
    [
      "done",
      "removed",
      "stopped",
      "relaunch",
      "crashed",
      "version_deprecated",
      "session_conflict",
      "terminated_error",
    ] as const
  ).map(
    (meaning) => (): Input => ({
      on: "runner_exited",
      exit: { meaning, ranJob: meaning === "done", message: "It ended." },
    }),
  ),
  () => ({ on: "runner_drained", outcome: { kind: "busy" } }),
  () => ({ on: "runner_drained", outcome: { kind: "drained", was: "idle", proof: {} } }),
  () => ({ on: "flushed" }),
  () => ({ on: "last_words_said" }),
  ...[1, 2, 3].map((count) => (): Input => ({ on: "signal", count, exitCode: 143 })),
  ...(
    [
      "alone",
      "retry",
      "metadata",
      "listen",
      "idle",
      "lifetime",
      "force",
      "kill",
      "gone",
      "drain_again",
    ] as const
  ).map((timer) => (): Input => ({ on: "timer", timer })),
];

const forceful = (input: Input): boolean =>
  (input.on === "signal" && input.count > 1) ||
  (input.on === "timer" && ["force", "kill"].includes(input.timer)) ||
  (input.on === "command" && ["force", "immediate"].some((key) => input.command.parameters[key] === true));

/** What must hold at each step, whatever comes. */
class Watch {
  readonly #open = new Set<string>();
  readonly #grants = new Set<string>();
  #runnerIsOurs = false;
  #ended = false;

  constructor(interrupted: readonly { id: string }[] = []) {
    for (const { id } of interrupted) this.#open.add(id);
  }

  look(before: State | undefined, input: Input | undefined, state: State, effects: readonly Effect[]): void {
    expect(this.#ended, "nothing happens after the exit").toBe(false);
    if (before !== undefined) {
      expect(mayMove(before.at, state.at), `${before.at} → ${state.at}`).toBe(true);
      if (before.at === "shutting_down") expect(state.at).toBe("shutting_down");
    }
    if (input?.on === "command") this.#open.add(input.command.id);
    if (input?.on === "runner_failed" || input?.on === "runner_exited") this.#runnerIsOurs = false;
    for (const effect of effects) this.#lookAt(effect, input);
    const isByGrant = effects.some(({ do: what }) => what === "start_runner") && input?.on === "grant_read";
    if (isByGrant && input.grant.is === "found") {
      expect(before?.rules.fromMetadataMs, "metadata is for those who were told to look there").toBeDefined();
      expect(this.#grants.size === 0 || before?.usedGrant !== input.grant.id, "a used grant is left").toBe(
        true,
      );
      this.#grants.add(input.grant.id);
    }
    if (before !== undefined && before.at === "ready" && state.at === "ready" && input?.on === "grant_read")
      expect(
        effects.some((effect) => effect.do === "set_timer" && effect.timer === "metadata"),
        "one who waits for a grant looks again",
      ).toBe(before.rules.fromMetadataMs !== undefined);
    const owed = "owed" in state ? state.owed.map(({ id }) => id) : [];
    const registers =
      state.at === "registering_runner" && state.commandId !== undefined ? [state.commandId] : [];
    const collects = state.collecting === undefined ? [] : [state.collecting];
    expect([...this.#open].sort(), "every command is answered, or its answer is owed").toEqual(
      [...owed, ...registers, ...collects].sort(),
    );
  }

  #lookAt(effect: Effect, input: Input | undefined): void {
    if (effect.do === "finish")
      expect(this.#open.delete(effect.commandId), "one result for one command").toBe(true);
    if (effect.do === "refuse")
      expect(this.#open.delete(effect.command.id), "one result for one command").toBe(true);
    if (effect.do === "receive") expect(this.#open.has(effect.command.id)).toBe(true);
    if (effect.do === "start_runner") {
      expect(this.#runnerIsOurs, "one runner at a time").toBe(false);
      this.#runnerIsOurs = true;
    }
    if (effect.do === "interrupt_runner" || effect.do === "kill_runner")
      expect(input !== undefined && forceful(input), "only force touches a runner").toBe(true);
    if (effect.do === "exit") this.#ended = true;
  }
}

describe("every input in every state", () => {
  for (const [name, way] of Object.entries(ways)) {
    it(name, () => {
      expect(live(way()).state.at).toBe(name.split(",")[0]);
      for (const by of [rules, byMetadata])
        for (const make of inputs) {
          const watch = new Watch();
          const first = begin(newborn, by);
          watch.look(undefined, undefined, first.state, first.effects);
          let { state } = first;
          for (const input of [...way(), make()]) {
            if (state.at === "shutting_down" && state.phase === "over") break;
            const next = step(state, input);
            watch.look(state, input, next.state, next.effects);
            state = next.state;
          }
        }
    });
  }
  it("is reached: the ways above lead into all nine", () => {
    expect(new Set(Object.values(ways).map((way) => live(way()).state.at))).toEqual(new Set(agentStates));
  });
});

it("holds in any order of anything, also after a restart", () => {
  const anyInput = fc.nat({ max: inputs.length - 1 });
  const found = fc.record({
    resumed: fc.boolean(),
    lastState: fc.constantFrom(...agentStates),
    draining: fc.boolean(),
    hasRunner: fc.boolean(),
    hasJob: fc.boolean(),
    listened: fc.boolean(),
    isBusy: fc.boolean(),
    interrupted: fc.subarray([...commandTypes]),
  });
  fc.assert(
    fc.property(
      found,
      fc.array(anyInput, { maxLength: 40 }),
      fc.boolean(),
      fc.boolean(),
      (was, picks, reuse, looks) => {
        const interrupted = was.interrupted.map((type) => ({ id: `old-${type}`, type }));
        const first = begin(
          {
            ...newborn,
            ...was,
            interrupted,
            ...(was.hasRunner
              ? {
                  runner: {
                    identity: { name: "r-0", labels: [] },
                    listened: was.listened,
                    isBusy: was.isBusy,
                    commandId: "old-register_runner",
                  },
                }
              : {}),
            ...(was.hasJob ? { job } : {}),
          },
          { ...(looks ? byMetadata : rules), reuse },
        );
        const watch = new Watch(interrupted);
        watch.look(undefined, undefined, first.state, first.effects);
        let { state } = first;
        for (const pick of picks) {
          const input = inputs[pick]?.();
          if (input === undefined || (state.at === "shutting_down" && state.phase === "over")) break;
          const next = step(state, input);
          watch.look(state, input, next.state, next.effects);
          state = next.state;
        }
      },
    ),
    { numRuns: 3_000 },
  );
});

describe("a grant in the instance's metadata", () => {
  const again: Effect = { do: "set_timer", timer: "metadata", afterMs: 15_000 };
  const liveBy = (inputs: readonly Input[]) => live(inputs, newborn, byMetadata);

  it("is looked for as soon as the controller is waited for, and not by others", () => {
    expect(liveBy([{ on: "checked" }]).last).toContainEqual({ do: "read_grant" });
    expect(liveBy([{ on: "checked" }, { on: "announced" }]).last).toContainEqual({ do: "read_grant" });
    expect(live(ready).effects).not.toContainEqual({ do: "read_grant" });
    expect(live([...ready, inMetadata("g-1")]).state.at).toBe("ready");
  });
  it("registers a runner, of which no command gets a result", () => {
    const life = liveBy([...ready, inMetadata("g-1")]);
    expect(life.state).toMatchObject({ at: "registering_runner", usedGrant: "g-1", runner: { name: "r-1" } });
    expect(life.state).not.toHaveProperty("commandId");
    expect(life.last).toContainEqual({
      do: "remember",
      change: { said: undefined, usedGrant: "g-1", state: "registering_runner" },
    });
    const listens = liveBy([...ready, inMetadata("g-1"), observed({ kind: "listening" })]);
    expect(listens.state.at).toBe("idle");
    expect(listens.emitted).toContain("runner_registered");
    expect(listens.finished).toEqual([]);
  });
  it("stands in for a controller that does not answer at boot", () => {
    const found: Input[] = [{ on: "checked" }, inMetadata("g-1")];
    expect(liveBy(found).state.at).toBe("ready");
    expect(liveBy(found).last).toContainEqual({ do: "read_grant" });
    const begun = liveBy([...found, inMetadata("g-1"), { on: "announced" }, { on: "timer", timer: "alone" }]);
    expect(begun.state.at).toBe("registering_runner");
  });
  it("that is not there yet is looked for again", () => {
    const absent: Input = { on: "grant_read", grant: { is: "absent" } };
    expect(liveBy([...ready, absent]).last).toEqual([again]);
    const later = liveBy([...ready, absent, { on: "timer", timer: "metadata" }]);
    expect(later.last).toEqual([{ do: "read_grant" }]);
  });
  it("that is wrong is told once, until it is another", () => {
    const bad = (message: string): Input => ({ on: "grant_read", grant: { is: "bad", message } });
    const told = liveBy([
      ...ready,
      bad("a"),
      bad("a"),
      bad("b"),
      inMetadata("g-1", {}),
      inMetadata("g-2", {}),
    ]);
    expect(told.emitted.filter((type) => type === "error")).toHaveLength(3);
    expect(told.last).toEqual([again]);
  });
  it("is used once: after a failure another one is waited for, and the third failure is the last", () => {
    const retry: Input = { on: "timer", timer: "retry" };
    const failed = [...ready, inMetadata("g-1"), failedTry, retry];
    expect(liveBy(failed).state.at).toBe("ready");
    expect(liveBy([...failed, inMetadata("g-1")]).last).toEqual([again]);
    const third = [...failed, inMetadata("g-2"), failedTry, retry, inMetadata("g-3"), failedTry];
    expect(liveBy(third).state).toMatchObject({ at: "error", exitCode: 5 });
    const reborn = begin({ ...newborn, resumed: true, lastState: "ready", usedGrant: "g-1" }, byMetadata);
    expect(step(reborn.state, inMetadata("g-1")).state.at).toBe("ready");
    expect(step(reborn.state, inMetadata("g-2")).state.at).toBe("registering_runner");
  });
  it("loses against a command that was there first, and wins against one that comes later", () => {
    const first = command("register_runner", grant);
    const late = liveBy([...ready, first, inMetadata("g-1")]);
    expect(late.state).toMatchObject({ at: "registering_runner", commandId: first.command.id });
    expect(late.last).toEqual([]);
    expect(liveBy([...ready, inMetadata("g-1"), command("register_runner", grant)]).does("refuse")).toBe(
      true,
    );
  });
});

describe("a life", () => {
  it("goes from boot to power-off", () => {
    const life = live([...working(), completed, { on: "runner_exited", exit }, { on: "last_words_said" }]);
    expect(life.emitted).toEqual(["vm_started", "runner_registered", "job_started", "job_completed"]);
    expect(life.effects.filter(({ do: what }) => ["last_words", "power_off", "exit"].includes(what))).toEqual(
      [
        { do: "last_words", reason: "runner_done", exitCode: 0 },
        { do: "power_off", unlessRunner: false },
        { do: "exit", code: 0 },
      ],
    );
  });
  it("with reuse is ready again after its job", () => {
    const life = live([...working(), completed, { on: "runner_exited", exit }], newborn, {
      ...rules,
      reuse: true,
    });
    expect(life.state.at).toBe("ready");
  });
  it("gives register_runner its result when the Listener listens, not before", () => {
    const before = live(registering());
    expect(before.does("receive") && before.does("start_runner")).toBe(true);
    expect(before.finished).toEqual([]);
    expect(live(idle()).finished).toMatchObject([
      { outcome: { success: true, result: { runner_name: "r-1" } } },
    ]);
  });
  it("tries three registrations, each with a fresh grant and a longer pause, then gives up with 5", () => {
    const retry: Input = { on: "timer", timer: "retry" };
    const again = (): Input[] => [retry, command("register_runner", grant), failedTry];
    const once = live([...registering(), failedTry]);
    expect(once.last).toContainEqual({ do: "set_timer", timer: "retry", afterMs: 1_000 });
    expect(live([...registering(), failedTry, retry]).state.at).toBe("ready");
    expect(live([...registering(), failedTry, ...again()]).last).toContainEqual({
      do: "set_timer",
      timer: "retry",
      afterMs: 2_000,
    });
    const thrice = live([...registering(), failedTry, ...again(), ...again()]);
    expect(thrice.state).toMatchObject({ at: "error", exitCode: 5 });
    expect(thrice.finished.map(({ outcome }) => outcome.success)).toEqual([false, false, false]);
  });
  it("with reuse counts failures from the last runner that listened", () => {
    const retry: Input = { on: "timer", timer: "retry" };
    const fails = (): Input[] => [command("register_runner", grant), failedTry, retry];
    const works = (): Input[] => [
      command("register_runner", grant),
      observed({ kind: "listening" }),
      started,
      completed,
      { on: "runner_exited", exit },
    ];
    const long = [...ready, ...fails(), ...fails(), ...works(), ...fails(), ...fails(), ...works()];
    expect(live(long, newborn, { ...rules, reuse: true }).state).toMatchObject({
      at: "ready",
      failedRegistrations: 0,
    });
    const began = [...ready, ...fails(), command("register_runner", grant), started];
    expect(live(began).state).toMatchObject({ at: "job_running", failedRegistrations: 0 });
  });
  it("a runner that crashes with its job closes the job, says runner_crashed and ends with 6", () => {
    const life = live([
      ...working(),
      { on: "runner_exited", exit: { ...exit, meaning: "crashed", signal: "SIGKILL" } },
      { on: "flushed" },
      { on: "last_words_said" },
    ]);
    expect(life.emitted.slice(-2)).toEqual(["job_completed", "runner_crashed"]);
    expect(life.last).toContainEqual({ do: "exit", code: 6 });
  });
  it("a drain with a job waits for it and answers at the runner's end", () => {
    const drain = command("drain", { registration: "busy" });
    const asked = live([...working(), drain, { on: "runner_drained", outcome: { kind: "busy" } }, completed]);
    expect(asked.state.at).toBe("draining");
    expect(asked.finished.some(({ commandId }) => commandId === drain.command.id)).toBe(false);
    const over = live([
      ...working(),
      drain,
      { on: "runner_drained", outcome: { kind: "busy" } },
      completed,
      { on: "runner_exited", exit },
    ]);
    expect(over.finished.at(-1)).toMatchObject({
      commandId: drain.command.id,
      outcome: { result: { drained: true, was: "busy" } },
    });
    expect(over.does("last_words")).toBe(true);
  });
  it("a drain's deadline ends the job by force, or tells; the newest counts, also after a restart", () => {
    const drain = (more: JsonObject): Input => command("drain", { registration: "busy", ...more });
    const busy: Input = { on: "runner_drained", outcome: { kind: "busy" } };
    const force = { do: "set_deadline", afterMs: 60_000, action: "force" };
    const asked = live([...working(), drain({ deadline: "1m", at_deadline: "force" })]);
    expect(asked.last).toContainEqual(force);
    const shorter = live([...working(), drain({}), busy, drain({ deadline: 60_000, at_deadline: "force" })]);
    expect(shorter.last).toContainEqual(force);
    const due: Input = { on: "timer", timer: "force" };
    expect(
      live([...working(), drain({ deadline: "1m", at_deadline: "force" }), busy, due]).does(
        "interrupt_runner",
      ),
    ).toBe(true);
    const late = live([...working(), drain({ deadline: "1m" }), busy, { on: "timer", timer: "overdue" }]);
    expect(late.emitted.at(-1)).toBe("error");
    expect(late.does("interrupt_runner")).toBe(false);
    const again = live([], {
      ...{ ...newborn, resumed: true, lastState: "draining", draining: true },
      runner: { identity: { name: "r-1", labels: [] }, listened: true, isBusy: true },
      deadline: { afterMs: 5, action: "force" },
    });
    expect(again.last).toContainEqual({ do: "set_deadline", afterMs: 5, action: "force" });
    // A VM without a runner has nothing to wait for.
    expect(live([...ready, drain({ deadline: "1m", at_deadline: "force" })]).does("set_deadline")).toBe(
      false,
    );
    for (const wrong of [
      { at_deadline: "force" },
      { deadline: "soon" },
      { deadline: "1m", at_deadline: "explode" },
    ])
      expect(live([...working(), drain(wrong)]).last).toContainEqual(
        expect.objectContaining({ do: "refuse" }),
      );
  });
  it("a log level for a while goes back to the one that lasts", () => {
    const level = (to: string, more: JsonObject = {}): Input =>
      command("set_log_level", { level: to, ...more });
    const timer: Input = { on: "timer", timer: "log_level" };
    const back = live([...ready, level("warn"), level("debug", { for: "10m" }), timer]);
    expect(back.last).toContainEqual({ do: "set_log_level", level: "warn" });
    const stayed = live([...ready, level("debug", { for: "10m" }), level("error")]);
    expect(stayed.last).toContainEqual({ do: "cancel_timer", timer: "log_level" });
    expect(live([...ready, level("debug", { for: "1ms" })]).last[0]).toMatchObject({ do: "refuse" });
  });
  it("diagnostics are collected beside everything else, one at a time, and answered once they are stored", () => {
    const order = command("collect_diagnostics", { reason: "hangs" });
    const { id } = order.command;
    const busy = live([...working(), order]);
    const wanted = { reason: "hangs", maxBytes: 1_048_576 };
    expect(busy.last).toEqual([
      { do: "receive", command: order.command },
      { do: "collect", commandId: id, wanted },
    ]);
    expect(busy.state.at).toBe("job_running");
    expect(live([...working(), order, command("collect_diagnostics")]).does("refuse")).toBe(true);
    const done = live([...working(), order, command("drain"), collected(id), collected(id)]);
    expect(done.finished).toEqual([
      expect.anything(),
      { do: "finish", commandId: id, outcome: { success: true, result: { bytes: 9 } } },
    ]);
    expect(live([...working(), order, collected(id), command("collect_diagnostics")]).does("collect")).toBe(
      true,
    );
    for (const parameters of [{ max_bytes: 1 }, { max_bytes: 2_000_000 }, { reason: 7 }, { path: "/etc" }])
      expect(live([...ready, command("collect_diagnostics", parameters)]).does("refuse")).toBe(true);
  });
  it("what is being collected when the VM ends is answered before the last words, and not again", () => {
    const order = command("collect_diagnostics");
    const ended = live([...ready, order, command("shutdown"), collected(order.command.id)]);
    const results = ended.finished.filter(({ commandId }) => commandId === order.command.id);
    expect(results.map(({ outcome }) => outcome.success)).toEqual([false]);
    const told = ended.effects.map((effect) => (effect.do === "finish" ? effect.commandId : effect.do));
    expect(told.indexOf(order.command.id)).toBeLessThan(told.indexOf("last_words"));
    expect(live([...ready, command("shutdown"), command("collect_diagnostics")]).does("refuse")).toBe(true);
    const cut = { ...newborn, resumed: true, interrupted: [{ id: "c", type: "collect_diagnostics" }] };
    expect(begin({ ...cut, lastState: "ready" }, rules).effects).toContainEqual(
      expect.objectContaining({
        do: "finish",
        commandId: "c",
        outcome: expect.objectContaining({ success: false }),
      }),
    );
  });
  it("update_config is remembered, and says what was and what is", () => {
    const changed = live([
      ...ready,
      command("update_config", { heartbeat_interval: "2s", log_level: "debug" }),
    ]);
    const config = { heartbeatIntervalMs: 2_000, logLevel: "debug" };
    expect(changed.last).toContainEqual({ do: "remember", change: { config } });
    expect(changed.finished.at(-1)?.outcome.result).toMatchObject({
      before: { "heartbeat.interval_ms": 15_000, "logging.level": "info" },
      after: { "heartbeat.interval_ms": 2_000, "logging.level": "debug" },
    });
  });
  it("a first signal lets the job end, a second stops it, a third does not wait", () => {
    const signal = (count: number): Input => ({ on: "signal", count, exitCode: 143 });
    expect(live([...working(), signal(1)]).last).toContainEqual({
      do: "set_timer",
      timer: "force",
      afterMs: 300_000,
    });
    expect(live([...working(), signal(1)]).does("interrupt_runner")).toBe(false);
    expect(live([...working(), signal(1), signal(2)]).does("interrupt_runner")).toBe(true);
    expect(live([...working(), signal(1), signal(2), signal(3)]).last).toContainEqual({
      do: "exit",
      code: 143,
    });
  });
  it("a VM that was written off finishes its job and ends", () => {
    const lost: Input = { on: "refused", refusal: { code: "incarnation_lost", message: "Gone." } };
    expect(live([...working(), lost]).state).toMatchObject({ at: "draining", exitCode: 0 });
    expect(live([...ready, lost]).does("last_words")).toBe(true);
  });
  it.each([
    ["forbidden", "controller_refused", 4],
    ["settings_invalid", "settings_invalid", 2],
  ] as const)("one that is %s says so and ends, but not while it has a runner", (code, told, exitCode) => {
    const refused: Input = { on: "refused", refusal: { code, message: "No." } };
    for (const inputs of [[{ on: "checked" } as const], ready])
      expect(live([...inputs, refused]).state).toMatchObject({ at: "error", reason: told, exitCode });
    expect(live([...working(), refused]).state.at).toBe("job_running");
    expect(live([...idle(), refused]).state.at).toBe("idle");
  });
  it("an agent that nobody answers ends with 4, but not while it has a runner", () => {
    const alone: Input = { on: "timer", timer: "alone" };
    expect(live([{ on: "checked" }, alone]).state).toMatchObject({ at: "error", exitCode: 4 });
    expect(live([...ready, alone]).state.at).toBe("ready");
    expect(live([...idle(), { on: "link_down" }, alone]).state.at).toBe("idle");
  });
  it("a restarted agent goes on with its runner and never starts a second", () => {
    const found: Found = {
      ...newborn,
      resumed: true,
      lastState: "job_running",
      job,
      runner: { identity: { name: "r-1", labels: [] }, listened: true, isBusy: true },
    };
    const life = live([completed, { on: "runner_exited", exit }], found);
    expect(life.emitted).toEqual(["job_completed"]);
    expect(
      life.effects.some((effect) => effect.do === "start_runner" || effect.do === "check_prerequisites"),
    ).toBe(false);
    expect(live([], { ...found, draining: true }).does("drain_runner")).toBe(true);
  });
});

it("a runner that does not listen in time is given up, and one that has a job after all is not", () => {
  const late: Input = { on: "timer", timer: "listen" };
  const idleOne: Input = { on: "runner_drained", outcome: { kind: "drained", was: "idle", proof: {} } };
  const given = live([...registering(), late, idleOne]);
  expect(given.state).toMatchObject({ at: "registering_runner", phase: "pausing" });
  expect(given.finished.at(-1)?.outcome).toMatchObject({ success: false });
  const busy = live([...registering(), late, { on: "runner_drained", outcome: { kind: "busy" } }]);
  expect(busy.state).toMatchObject({ at: "registering_runner", phase: "working" });
  for (const { effects } of [given, busy])
    expect(effects.some(({ do: what }) => what === "interrupt_runner" || what === "kill_runner")).toBe(false);
});

it("a runner that cannot be killed is not called drained", () => {
  const stopping = [...working(), command("drain"), command("shutdown", { force: true })];
  const life = live([...stopping, { on: "timer", timer: "kill" }, { on: "timer", timer: "gone" }]);
  expect(life.state.at).toBe("shutting_down");
  expect(life.finished.slice(-2).map(({ outcome }) => outcome.success)).toEqual([false, false]);
});

describe("bounds", () => {
  const bounded: Rules = { ...rules, idleMs: 60_000, lifetimeLeftMs: 600_000 };
  const timers = (effects: readonly Effect[]) =>
    effects.flatMap((effect) =>
      effect.do === "set_timer" || effect.do === "cancel_timer" ? [`${effect.do} ${effect.timer}`] : [],
    );

  it("an idle runner is drained after its time, and a job stops that clock", () => {
    const life = live(idle(), newborn, bounded);
    expect(timers(life.effects)).toContain("set_timer lifetime");
    expect(timers(life.last)).toContain("set_timer idle");
    expect(timers(live(working(), newborn, bounded).effects)).toContain("cancel_timer idle");
    const late = live([...idle(), { on: "timer", timer: "idle" }], newborn, bounded);
    expect(late.state).toMatchObject({ at: "draining", reason: "idle_timeout" });
    expect(late.does("drain_runner")).toBe(true);
    expect(live([...working(), { on: "timer", timer: "idle" }], newborn, bounded).state.at).toBe(
      "job_running",
    );
  });

  it.each<[string, Input]>([
    ["max_lifetime", { on: "timer", timer: "lifetime" }],
    ["disk_low", diskLow],
    ["preempted", preempted],
  ])("%s takes no new job and touches no running one", (reason, input) => {
    const busy = live([...working(), input]);
    expect(busy.state).toMatchObject({ at: "draining", reason });
    expect(busy.does("interrupt_runner") || busy.does("kill_runner")).toBe(false);
    expect(live([...ready, input]).state).toMatchObject({ at: "shutting_down", reason, exitCode: 0 });
    expect(live([input]).state.at).toBe(reason === "preempted" ? "shutting_down" : "initializing");
  });

  it("what the cloud said is told before anything is done about it", () => {
    const { last } = live([...working(), preempted]);
    expect(last[0]).toEqual({
      do: "emit",
      type: "preemption_notice",
      data: { cloud: "gcp", action: "preempted", deadline: "1970-01-01T00:00:30.000Z" },
    });
  });

  it("an agent that goes on with an idle runner goes on with its clocks", () => {
    const identity = { name: "r-1", labels: [] };
    const runner = { identity, listened: true, isBusy: false };
    const life = live([], { ...newborn, resumed: true, lastState: "idle", runner }, bounded);
    expect(timers(life.effects)).toEqual(["set_timer lifetime", "set_timer idle"]);
  });

  it("a fatal error is remembered before it is told, or the next process would go on where no controller follows", () => {
    const { last } = live([{ on: "checked", problem: { code: "runner_crashed", message: "it broke" } }]);
    const steps = last.map((effect) => (effect.do === "emit" ? `emit ${effect.type}` : effect.do));
    expect(steps.indexOf("remember")).toBeLessThan(steps.indexOf("emit error"));
    expect(steps).toContain("emit error");
  });

  it("failed registrations are counted across processes, or an agent would wait for a grant that nobody gives", () => {
    const third = {
      ...newborn,
      resumed: true,
      lastState: "registering_runner",
      failedRegistrations: 2,
    } as const;
    const identity = { name: "r-1", labels: [] };
    const dead = { ...third, runner: { identity, listened: false, isBusy: false } };
    expect(live([{ on: "runner_exited", exit: { ...exit, ranJob: false } }], dead).state).toMatchObject({
      at: "error",
      exitCode: 5,
    });
    const cut = live([], { ...third, interrupted: [{ id: "c-1", type: "register_runner" }] });
    expect(cut.state).toMatchObject({ at: "error", exitCode: 5 });
    const ending = { reason: "runner_start_failed", exitCode: 5 };
    const remembered = { do: "remember", change: { state: "error", ending } };
    expect(cut.effects.findIndex(({ do: what }) => what === "emit")).toBeGreaterThan(
      cut.effects.findIndex((effect) => JSON.stringify(effect) === JSON.stringify(remembered)),
    );
    const second = {
      ...third,
      failedRegistrations: 0,
      interrupted: [{ id: "c-1", type: "register_runner" }],
    };
    expect(live([], second).state).toMatchObject({ at: "ready", failedRegistrations: 1 });
    expect(live([], second).effects).toContainEqual({ do: "remember", change: { failedRegistrations: 1 } });
    expect(live([], third).state).toMatchObject({ at: "ready", failedRegistrations: 2 });
  });
  it("a process that ends a life of another goes out with that one's exit code", () => {
    const failed: Found = {
      ...newborn,
      resumed: true,
      lastState: "error",
      ending: { reason: "runner_crashed", exitCode: 6 },
    };
    expect(live([], failed).state).toMatchObject({
      at: "shutting_down",
      reason: "runner_crashed",
      exitCode: 6,
    });
  });
});

it("a step tells first and remembers in one write, so that no crash finds half of it", () => {
  for (const way of Object.values(ways))
    for (const make of inputs) {
      const { state, effects } = step(live(way()).state, make());
      const at = effects.findIndex((effect) => effect.do === "remember");
      expect(effects.filter((effect) => effect.do === "remember").length).toBeLessThan(2);
      if (at !== -1 && state.at !== "error")
        expect(effects.slice(at).some(({ do: what }) => what === "emit" || what === "finish")).toBe(false);
    }
  const done = live([...working(), completed, { on: "runner_exited", exit }]);
  expect(done.last).toContainEqual({
    do: "remember",
    change: {
      runner: undefined,
      job: undefined,
      ending: { reason: "runner_done", exitCode: 0 },
      state: "shutting_down",
    },
  });
  expect(live(registering()).last).toContainEqual({
    do: "remember",
    change: { said: undefined, state: "registering_runner" },
  });
});

it.each([
  { labels: ["linux,gpu"] },
  { labels: ["a\nb"] },
  { runner_url: "file:///etc" },
  { runner_url: "--url" },
])("register_runner with %o is refused in a sentence", (parameters) => {
  const life = live([...ready, command("register_runner", { ...grant, ...parameters })]);
  expect(life.does("refuse")).toBe(true);
  expect(life.state.at).toBe("ready");
});

it("the agent's table has no move that no step makes", () => {
  const made = new Set<string>();
  for (const reuse of [false, true])
    for (const way of Object.values(ways)) {
      for (const make of inputs) {
        const { state } = live(way(), newborn, { ...rules, reuse });
        made.add(`${state.at} → ${step(state, make()).state.at}`);
      }
    }
  const listed = agentStates.flatMap((from) => agentMoves[from].map((to) => `${from} → ${to}`));
  // Without a runner a drain has nothing to wait for, and a drained VM has nothing left to fail at.
  expect(listed.filter((move) => !made.has(move))).toEqual([
    "waiting_for_controller → draining",
    "ready → draining",
    "draining → error",
  ]);
});
