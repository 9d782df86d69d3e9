import { type Clock, pause, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type Command, PROTOCOL_VERSION } from "@mig/protocol";
import type { HttpCalls } from "./http-calls.ts";
import type { Link, LinkUp, OpenLinkListener, Speaker } from "./link.ts";

export interface PollLinkSettings {
  http: HttpCalls;
  speaker: Speaker;
  /** How long the server may hold a request. */
  waitMs: number;
  /** Between requests to a server that does not hold them. */
  pauseMs: number;
  clock?: Clock | undefined;
}

/** Long polling: up after the first answer, then one held request after the other. Everything else goes by HTTP. */
export async function openPollLink(
  settings: PollLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const { http, speaker, waitMs, clock = systemClock } = settings;
  const closing = new AbortController();
  const answers = new Map<string, () => void>();

  let delivered = new Set<string>();
  /** The last request brought nothing that the one before had not brought. */
  const bringsNothing = (commands: readonly Command[]): boolean => {
    const before = delivered;
    delivered = new Set(commands.map(({ id }) => id));
    return commands.every(({ id }) => before.has(id));
  };
  const deliver = async (commands: readonly Command[]): Promise<void> => {
    // The server repeats a command that is not answered, so the next request waits for the answer to this one.
    const answered = commands.map(
      (command) => new Promise<void>((resolve) => answers.set(command.id, resolve)),
    );
    for (const command of commands) listener.onCommand(command);
    await Promise.race([Promise.all(answered), pause(settings.pauseMs, closing.signal)]);
    answers.clear();
  };

  const first = await http.getCommands(0, speaker.migletState(), closing.signal);
  const poll = async (): Promise<void> => {
    await deliver(first);
    while (!closing.signal.aborted) {
      const startedMs = clock.monotonicMs();
      const commands = await http.getCommands(waitMs, speaker.migletState(), closing.signal);
      await deliver(commands);
      const tookMs = clock.monotonicMs() - startedMs;
      if (bringsNothing(commands) && tookMs < waitMs / 2) await pause(settings.pauseMs, closing.signal);
    }
  };
  const link: Link = {
    channel: "poll",
    sendEvents: (events) => http.postEvents(events),
    sendHeartbeat: (beat) => http.postHeartbeat(beat),
    async answer(answer) {
      await http.answerCommand(answer);
      answers.get(answer.commandId)?.();
    },
    async close() {
      closing.abort();
      await running;
    },
  };
  // Begins after the caller has the link, so that no command comes before it.
  const running = Promise.resolve()
    .then(poll)
    .catch((error: unknown) => {
      if (closing.signal.aborted) return;
      closing.abort();
      listener.onDown(
        error instanceof MigError
          ? error
          : new MigError("controller_unreachable", "Polling ended.", { cause: error }),
      );
    });
  return { link, up: { channel: "poll", protocolVersion: PROTOCOL_VERSION } };
}
