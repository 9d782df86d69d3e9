import { arch, platform, release } from "node:os";
import { join } from "node:path";
import { systemClock } from "@mig/kit";
import { type EventType, type JsonObject, maybe, PRODUCT_VERSION, readText } from "@mig/protocol";
import { type CloudFacts, describeCloud } from "./boot/cloud-facts.ts";
import { passPrerequisites } from "./boot/pass-prerequisites.ts";
import { createGrantReader } from "./boot/read-grant.ts";
import type { Hands } from "./hands.ts";
import type { Effect, Input, Timer } from "./life/words.ts";
import { sayLastWords } from "./shutdown/last-words.ts";
import { powerOff } from "./shutdown/power-off.ts";

/**
 * Carries out one effect. What must be done before the next one is awaited (on disk: events, journal, state); what
 * takes long is begun, and its outcome comes back as an input. Answers the exit code when the life is over.
 */
export type Perform = (effect: Effect) => Promise<number | undefined>;

export function createPerform(hands: Hands): Perform {
  const { settings, memory, link, outbox, inbox, pulse, runner, collector, log, feed } = hands;
  const timers = new Map<Timer, () => void>();
  const readGrant = createGrantReader(hands);
  const flushMs = settings["shutdown.flush_timeout"];

  /** However it ends, the life must go on. */
  const begin = (work: Promise<unknown>, then: Input): void => {
    work.then(
      () => feed(then),
      (error: unknown) => {
        log.error({ error, input: then.on }, "Something that was begun has failed.");
        feed(then);
      },
    );
  };
  /** Events go by HTTP before a channel is open; where there is no HTTP, only the channel can carry them. */
  const openWithoutHttp = (): void => {
    if (hands.http === undefined) link.open();
  };
  const cancelTimer = (timer: Timer): void => {
    timers.get(timer)?.();
    timers.delete(timer);
  };
  const setTimer = (timer: Timer, afterMs: number): void => {
    cancelTimer(timer);
    timers.set(
      timer,
      systemClock.after(afterMs, () => feed({ on: "timer", timer })),
    );
  };

  return async (effect) => {
    switch (effect.do) {
      case "check_prerequisites":
        passPrerequisites(settings, { log, machine: machineOf(hands) }).then(
          (problem) => feed({ on: "checked", ...maybe("problem", problem) }),
          (error: unknown) => feed({ on: "checked", problem: { code: "internal", message: String(error) } }),
        );
        return;
      case "announce":
        pulse.start();
        openWithoutHttp();
        begin(outbox.whenAcknowledged(memory.spool.lastSeq()), { on: "announced" });
        return;
      case "open_link":
        pulse.start();
        link.open();
        return;
      case "send_events":
        outbox.wake();
        return;
      case "read_grant":
        readGrant().then(
          (grant) => feed({ on: "grant_read", grant }),
          (error: unknown) => feed({ on: "grant_read", grant: { is: "bad", message: String(error) } }),
        );
        return;
      case "emit": {
        const { seq } = await outbox.append(effect.type, complete(effect.type, effect.data, hands.facts));
        hands.local.tally.event(effect.type, effect.data);
        const jobId = readText(effect.data, "job_id");
        log.info(
          { type: effect.type, seq, ...(jobId === undefined ? {} : { job_id: jobId }) },
          "An event was recorded.",
        );
        return;
      }
      case "receive":
        await inbox.receive(effect.command);
        return;
      case "finish":
        hands.local.tally.command(effect.outcome.success ? "succeeded" : "failed");
        await inbox.finish(effect.commandId, effect.outcome);
        return;
      case "refuse":
        log.warn(
          { command_id: effect.command.id, type: effect.command.type, why: effect.message },
          "A command was refused.",
        );
        hands.local.tally.command("refused");
        await inbox.refuse(effect.command, effect.message);
        return;
      case "start_runner":
        runner.start(effect.commandId, effect.runner, effect.material, effect.pin);
        return;
      case "drain_runner":
        runner.drain(effect.verdict);
        return;
      case "interrupt_runner":
        runner.interrupt();
        return;
      case "kill_runner":
        runner.kill();
        return;
      case "set_timer":
        setTimer(effect.timer, effect.afterMs);
        return;
      case "cancel_timer":
        cancelTimer(effect.timer);
        return;
      case "set_deadline": {
        const { afterMs, action } = effect;
        await memory.state.change({ deadline: { atMs: systemClock.nowMs() + afterMs, action } });
        setTimer(action === "force" ? "force" : "overdue", afterMs);
        return;
      }
      case "collect": {
        const { commandId } = effect;
        collector.collect(commandId, effect.wanted).then(
          (outcome) => feed({ on: "collected", commandId, outcome }),
          (error: unknown) =>
            feed({ on: "collected", commandId, outcome: { success: false, message: String(error) } }),
        );
        return;
      }
      case "stop_collecting":
        collector.stop();
        return;
      case "beat":
        pulse.beatNow();
        return;
      case "set_log_level":
        log.setLevel(effect.level);
        return;
      case "set_heartbeat_interval":
        pulse.setIntervalMs(effect.intervalMs);
        return;
      case "remember":
        await memory.state.change(effect.change);
        return;
      case "flush":
        openWithoutHttp();
        begin(outbox.flush(flushMs), { on: "flushed" });
        return;
      case "last_words": {
        const { reason, exitCode } = effect;
        openWithoutHttp();
        const said = hands
          .whenAnswered(answersMs)
          .then(() => sayLastWords(outbox, { reason, exitCode }, flushMs));
        begin(said, { on: "last_words_said" });
        return;
      }
      case "power_off":
        await powerOff(settings["shutdown.command"], {
          log,
          ...(effect.unlessRunner ? { unless: join(settings["runner.dir"], "bin", "Runner.Listener") } : {}),
        });
        return;
      case "exit":
        for (const timer of [...timers.keys()]) cancelTimer(timer);
        return effect.code;
    }
  };
}

/** A receipt should arrive before the last word, after which the controller expects nothing more. */
const answersMs = 2_000;

const machineOf = ({ environment, facts }: Hands) => ({ environment, ...maybe("facts", facts) });

function complete(type: EventType, data: JsonObject, facts: CloudFacts | undefined): JsonObject {
  if (type !== "vm_started") return data;
  return {
    version: PRODUCT_VERSION,
    os: `${platform()} ${release()}`,
    arch: arch(),
    ...describeCloud(facts),
    ...data,
  };
}
