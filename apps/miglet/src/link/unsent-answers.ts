import type { Clock, Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { CommandAnswer } from "@mig/protocol";

export interface UnsentAnswersSettings {
  /** Rejects when the answer reached nobody. Undefined: there is nobody, so that trying again by itself is no use. */
  way(): ((answer: CommandAnswer) => Promise<void>) | undefined;
  /** Until an answer that failed is sent again, unless a channel opens before. */
  againMs: number;
  log: Log;
  clock: Clock;
}

/** Answers to commands that nobody took: the newest for each command, at most 100, sent when a channel opens. */
export interface UnsentAnswers {
  /** Never rejects: what cannot be sent is kept. */
  send(answer: CommandAnswer): Promise<void>;
  sendAll(): Promise<void>;
  close(): void;
}

const answersKeptMax = 100;

export function createUnsentAnswers({ way, againMs, log, clock }: UnsentAnswersSettings): UnsentAnswers {
  const unsent = new Map<string, CommandAnswer>();
  let cancel: (() => void) | undefined;
  let isClosed = false;

  /** By HTTP an answer can fail while its channel stays up; then no opening channel would ever send it. */
  const sendLater = (hintMs = 0): void => {
    if (cancel !== undefined || isClosed) return;
    cancel = clock.after(Math.max(againMs, hintMs), () => {
      cancel = undefined;
      if (!isClosed) sendAll().catch(() => {}); // `send` tells and keeps.
    });
  };
  const send = async (answer: CommandAnswer): Promise<void> => {
    try {
      const carry = way();
      if (carry !== undefined) return await carry(answer);
    } catch (error) {
      if (error instanceof MigError && isFinal(error)) {
        log.warn({ error, command_id: answer.commandId }, "The controller does not want this answer.");
        return;
      }
      log.info({ error, command_id: answer.commandId }, "The answer to a command waits.");
      sendLater(error instanceof MigError ? error.retryAfterMs : undefined);
    }
    unsent.delete(answer.commandId);
    const [oldest] = unsent.keys();
    // Dropping the oldest is safe: the controller delivers that command again and gets its answer from the journal.
    if (oldest !== undefined && unsent.size >= answersKeptMax) unsent.delete(oldest);
    unsent.set(answer.commandId, answer);
  };
  const sendAll = async (): Promise<void> => {
    for (const [id, answer] of [...unsent]) {
      unsent.delete(id);
      await send(answer);
    }
  };
  return {
    send,
    sendAll,
    close() {
      isClosed = true;
      cancel?.();
    },
  };
}

/** A controller that does not know a command, or has its result, will not take it later either. */
function isFinal({ code }: MigError): boolean {
  return ["not_found", "conflict", "refused", "invalid_request", "payload_too_large"].includes(code);
}
