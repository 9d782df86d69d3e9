import { uptime } from "node:os";
import { BoundedQueue, type Log } from "@mig/kit";
import { maybe, PRODUCT_VERSION } from "@mig/protocol";
import type { CloudFacts } from "./boot/cloud-facts.ts";
import type { Settings } from "./boot/settings-table.ts";
import type { RecentLines } from "./diagnostics/recent-lines.ts";
import { type Hands, openHands } from "./hands.ts";
import { begin } from "./life/resume.ts";
import type { Input, Rules, State, Step } from "./life/words.ts";
import { step } from "./life.ts";
import { lockDirectory } from "./memory/lock.ts";
import { openMemory } from "./memory/open-memory.ts";
import type { RememberedConfig } from "./memory/state-file.ts";
import { createPerform } from "./perform.ts";
import { correlationOf, statusOf } from "./status.ts";

export interface MigletOptions {
  settings: Settings;
  environment: Readonly<Record<string, string | undefined>>;
  /** Of the cloud that this machine is in. */
  facts?: CloudFacts;
  log: Log;
  recent?: RecentLines;
  /** Calls back at each signal, with the exit code that it stands for. */
  onSignal(listener: (exitCode: number) => void): void;
}

/**
 * One mailbox. Whatever happens (the link, the runner, a timer, a signal) is put into it as an input; one input at a
 * time goes through `step`, and the effects are performed in order before the next one. So no two things ever happen
 * to the state at once. Answers the exit code when the life is over.
 */
export async function runMiglet({
  settings,
  environment,
  facts,
  log,
  recent,
  onSignal,
}: MigletOptions): Promise<number> {
  const mailbox = new BoundedQueue<Input>(inputsMax);
  // Before anything else: a signal that comes while the memory is opened waits until there is a state to ask.
  let signals = 0;
  onSignal((exitCode) => {
    signals += 1;
    log.info({ count: signals, exit_code: exitCode }, "A signal asks the agent to stop.");
    mailbox.push({ on: "signal", count: signals, exitCode });
  });
  log.info({ version: PRODUCT_VERSION, pid: process.pid }, "The agent starts.");
  const lock = await lockDirectory(settings.state_dir);
  const memory = await openMemory({ directory: settings.state_dir, log: log.child({ component: "memory" }) });
  let overflowed = false;
  const probes: (() => void)[] = [];
  // Until the first step is made, nobody hears from this state.
  const { bornAtUptimeS = uptime(), ...remembered } = memory.state.read();
  const lifetimeLeftMs = lifetimeLeft(settings, uptime() - bornAtUptimeS);
  let state: State = {
    at: "initializing",
    problems: [],
    ...carriedAtFirst(settings, lifetimeLeftMs, remembered.config),
  };
  const hands: Hands = await openHands({
    settings,
    environment,
    ...maybe("facts", facts),
    memory,
    log,
    ...maybe("recent", recent),
    state: () => state,
    isAlive: () =>
      new Promise((resolve) => {
        probes.push(() => resolve(true));
        if (!mailbox.push({ on: "probe" })) resolve(false);
      }),
    feed(input) {
      if (input.on === "command" && mailbox.size > commandsMax)
        hands.inbox
          .refuse(input.command, "The agent is too busy to take this; send another command later.")
          .catch((error: unknown) => log.error({ error }, "A command could not be refused."));
      else if (!mailbox.push(input) && !overflowed) {
        // Never seen; losing an input could lose a job's end. The process ends, and the next one finds its runner.
        overflowed = true;
        log.error({ inputs: mailbox.size, input: input.on }, "The mailbox is full; the agent starts again.");
        mailbox.close();
      }
    },
  });
  try {
    const perform = createPerform(hands);
    const take = async (next: Step): Promise<number | undefined> => {
      if (next.state.at !== state.at)
        log.info({ ...statusOf(next.state), before: state.at }, "The agent has moved on.");
      const hasMoved = next.state.at !== state.at;
      state = next.state;
      log.correlate({ ...hands.belongs(), ...correlationOf(state) });
      if (hasMoved) tellSystemd(hands, state);
      for (const effect of next.effects) {
        const code = await perform(effect);
        if (code !== undefined) return code;
      }
      return undefined;
    };
    const rememberedRunner = await hands.runner.find();
    const { state: lastState, draining, job, ending, usedGrant, deadline, config } = remembered;
    const { failedRegistrations = 0 } = remembered;
    if (config?.logLevel !== undefined) log.setLevel(config.logLevel);
    if (config?.heartbeatIntervalMs !== undefined) hands.pulse.setIntervalMs(config.heartbeatIntervalMs);
    const first = begin(
      {
        resumed: memory.resumed,
        lastState,
        draining,
        failedRegistrations,
        interrupted: hands.inbox.interrupted().map(({ id, type }) => ({ id, type })),
        problems: memory.problems,
        ...maybe("ending", ending),
        ...maybe("runner", rememberedRunner),
        ...maybe("job", job),
        ...maybe("usedGrant", usedGrant),
        ...(deadline === undefined
          ? {}
          : { deadline: { afterMs: Math.max(0, deadline.atMs - Date.now()), action: deadline.action } }),
      },
      state.rules,
    );
    const early = await take(first);
    if (early !== undefined) return early;
    for await (const input of mailbox) {
      if (input.on === "probe") {
        for (const answer of probes.splice(0)) answer();
        continue;
      }
      log.debug({ input: input.on, state: state.at }, "An input is taken.");
      const code = await take(step(state, input));
      if (code !== undefined) return code;
    }
    return internalFault;
  } finally {
    await hands.close();
    await lock.release();
  }
}

function tellSystemd({ local: { watchdog } }: Hands, { at }: State): void {
  void watchdog.tell(`STATUS=${at}`, ...(at === "shutting_down" ? ["STOPPING=1"] : []));
}

const internalFault = 70;
const inputsMax = 10_000;
const commandsMax = 1_000;

function lifetimeLeft(settings: Settings, livedS: number): number | undefined {
  const maxMs = settings["limits.max_lifetime"];
  return maxMs === 0 ? undefined : Math.max(0, maxMs - livedS * 1000);
}

function carriedAtFirst(
  settings: Settings,
  lifetimeLeftMs: number | undefined,
  changed: RememberedConfig = {},
): Pick<State, "rules" | "failedRegistrations" | "linked"> {
  const rules: Rules = {
    vmId: settings.vm_id,
    labels: settings["github.labels"],
    ...(settings["github.runner_group"] === undefined
      ? {}
      : { runnerGroup: settings["github.runner_group"] }),
    reuse: settings["runner.reuse"],
    registrationsMax: 3,
    retryFirstMs: settings["controller.retry.initial_backoff"],
    retryCapMs: settings["controller.retry.max_backoff"],
    listenWithinMs: settings["runner.start_timeout"],
    forceAfterMs: settings["shutdown.force_after"],
    graceMs: settings["shutdown.grace_period"],
    heartbeatIntervalMs: settings["heartbeat.interval"],
    logLevel: settings["logging.level"],
    aloneMs: settings["controller.give_up_after"],
    idleMs: settings["limits.idle_timeout"],
    ...maybe("lifetimeLeftMs", lifetimeLeftMs),
    ...(settings["github.token_source"] === "metadata"
      ? { fromMetadataMs: settings["github.metadata_interval"] }
      : {}),
    ...changed,
  };
  return { rules, failedRegistrations: 0, linked: false };
}
