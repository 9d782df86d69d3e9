import { type Clock, type Log, systemClock } from "@mig/kit";
import type { Command, CommandAnswer, JsonObject } from "@mig/protocol";
import type { CommandJournal, JournalEntry } from "../memory/command-journal.ts";

/**
 * A command acts once, however often it is delivered.
 *
 *   admit ─ new ─┬─ receive (fsynced, answers `received`) … effect … finish (fsynced, answers `result`)
 *                └─ refuse (fsynced, answers `result`, success false, refused true)
 *   admit ─ handled: being handled, seen before (answered again by itself) or expired (refused)
 */
export interface Inbox {
  /** "new": the caller now receives or refuses it. "handled": the caller does nothing. */
  admit(command: Command): Promise<"new" | "handled">;
  receive(command: Command): Promise<void>;
  finish(commandId: string, outcome: Outcome): Promise<void>;
  refuse(command: Command, message: string): Promise<void>;
  /**
   * Once for each result, when a channel opens: a result that was lost with the channel before, or with the process
   * that had just written it down, is otherwise never known, because a command that was received is not delivered
   * again. The controller takes a second one for what it is.
   */
  repeatResults(): Promise<void>;
  /** Received by an earlier process of this agent and never finished: the caller finishes each by what it finds. */
  interrupted(): JournalEntry[];
}

export interface InboxSettings {
  journal: CommandJournal;
  /** `ChosenLink.answer`; what cannot be sent is delivered again by the controller and answered then. */
  answer(answer: CommandAnswer): Promise<void>;
  log: Log;
  /** The controller's clock, as far as it is known: it was the controller who said until when a command is good. */
  clock?: Pick<Clock, "nowMs">;
}

export interface Outcome {
  success: boolean;
  message?: string;
  result?: JsonObject;
}

const repeatsMax = 20;

export function createInbox(settings: InboxSettings): Inbox {
  const { journal, log, clock = systemClock } = settings;
  const beingDecided = new Set<string>();
  const left = journal.unfinished();
  const repeated = new Set<string>();

  const answer = async (reply: CommandAnswer): Promise<void> => {
    try {
      await settings.answer(reply);
    } catch (error) {
      log.warn(
        { error, command_id: reply.commandId },
        "A command could not be answered; it will come again.",
      );
    }
  };
  const refuse = async (command: Command, message: string): Promise<void> => {
    const reply: CommandAnswer = {
      commandId: command.id,
      stage: "result",
      success: false,
      message,
      result: { refused: true },
    };
    await journal.done(command.id, command.type, reply);
    beingDecided.delete(command.id);
    await answer(reply);
  };

  return {
    async admit(command) {
      const known = journal.find(command.id);
      if (known?.answer !== undefined) {
        await answer(known.answer);
        return "handled";
      }
      if (known !== undefined) {
        await answer({ commandId: command.id, stage: "received", success: true });
        return "handled";
      }
      if (beingDecided.has(command.id)) return "handled";
      beingDecided.add(command.id);
      if (command.expiresAtMs !== undefined && command.expiresAtMs <= clock.nowMs()) {
        const late = new Date(command.expiresAtMs).toISOString();
        await refuse(command, `The command expired at ${late} before it arrived.`);
        return "handled";
      }
      return "new";
    },
    async receive(command) {
      await journal.received(command.id, command.type);
      beingDecided.delete(command.id);
      await answer({ commandId: command.id, stage: "received", success: true });
    },
    async finish(commandId, outcome) {
      const reply: CommandAnswer = { commandId, stage: "result", ...outcome };
      await journal.done(commandId, journal.find(commandId)?.type ?? "", reply);
      beingDecided.delete(commandId);
      await answer(reply);
    },
    refuse,
    async repeatResults() {
      const results = journal.results(repeatsMax);
      const ids = new Set(results.map(({ commandId }) => commandId));
      for (const id of repeated) if (!ids.has(id)) repeated.delete(id);
      for (const result of results.filter(({ commandId }) => !repeated.has(commandId))) {
        repeated.add(result.commandId);
        await answer(result);
      }
    },
    interrupted: () => left.filter((entry) => journal.find(entry.id)?.answer === undefined),
  };
}
