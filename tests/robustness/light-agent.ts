import { pause, silentLog } from "@mig/kit";
import type { Command } from "@mig/protocol";
import { type ChosenLink, createChosenLink } from "../../apps/miglet/src/link/choose-link.ts";
import { createHttpCalls, type HttpCalls } from "../../apps/miglet/src/link/http-calls.ts";
import { createInbox, type Inbox } from "../../apps/miglet/src/link/inbox.ts";
import type { Channel } from "../../apps/miglet/src/link/link.ts";
import { type CommandJournal, openCommandJournal } from "../../apps/miglet/src/memory/command-journal.ts";

export interface LightAgentSettings {
  readonly vmId: string;
  readonly endpoint: string;
  readonly channel: "auto" | Channel;
  /** Where NATS is for this agent; undefined: nowhere. */
  readonly natsUrl?: string | undefined;
  readonly journalPath: string;
  readonly beatMs: number;
}

/**
 * What of an agent matters to commands: its links, its inbox and its journal on disk, without a runner and without a
 * process of its own, so that hundreds fit into a test. To obey is to write the command's id down.
 */
export class LightAgent {
  /** Ids in the order in which they took effect. */
  readonly effects: string[] = [];
  readonly #settings: LightAgentSettings;
  #parts:
    | { journal: CommandJournal; http: HttpCalls; link: ChosenLink; inbox: Inbox; stop: AbortController }
    | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(settings: LightAgentSettings) {
    this.#settings = settings;
  }

  get vmId(): string {
    return this.#settings.vmId;
  }

  channel(): Channel | undefined {
    return this.#parts?.link.channel();
  }

  async start(): Promise<void> {
    const { vmId, endpoint, channel, natsUrl, journalPath, beatMs } = this.#settings;
    const incarnation = `boot-${vmId}`;
    const speaker = {
      vmId,
      poolId: "pool-a",
      orgId: "acme",
      incarnation,
      version: "0.1.0",
      migletState: () => "idle",
    };
    const journal = await openCommandJournal(journalPath, silentLog);
    const http = createHttpCalls({ endpoint, vmId, incarnation, log: silentLog });
    let answering: Promise<void> = Promise.resolve();
    const inbox = createInbox({
      journal,
      answer(answer) {
        answering = answering.then(() => link.answer(answer)).catch(() => {});
        return Promise.resolve();
      },
      log: silentLog,
    });
    const link = createChosenLink(
      {
        channel,
        speaker: speaker as never,
        http,
        httpEndpoint: endpoint,
        grpcEndpoint: endpoint,
        ...(natsUrl === undefined ? {} : { nats: { prefix: "mig", urls: [natsUrl] } }),
        timing: {
          ...{
            reconnectFirstMs: 50,
            reconnectCapMs: 1_000,
            retryUpMs: 2_000,
            answerMs: 2_000,
            connectMs: 3_000,
          },
          ...{ natsPingMs: 1_000, streamSilentMs: 6_000, pollWaitMs: 3_000, pollPauseMs: 50 },
        },
        log: silentLog,
      },
      {
        onUp: () => void inbox.repeatResults().catch(() => {}),
        onDown: () => {},
        onCommand: (command) => void this.#take(inbox, command),
        onGoAway: () => {},
        onRefused: () => {},
      },
    );
    const stop = new AbortController();
    this.#parts = { journal, http, link, inbox, stop };
    // As a life goes on with what the process before had received (life/resume.ts).
    for (const { id } of inbox.interrupted()) {
      this.#effect(id);
      await inbox.finish(id, { success: true });
    }
    link.open();
    void this.#beat(link, incarnation, beatMs, stop.signal);
  }

  /** One after the other, as the agent's mailbox has it. */
  #take(inbox: Inbox, command: Command): void {
    this.#work = this.#work.then(async () => {
      if ((await inbox.admit(command)) !== "new") return;
      await inbox.receive(command);
      if (this.#parts?.inbox !== inbox) return; // It died here; the next process finds the command.
      this.#effect(command.id);
      await inbox.finish(command.id, { success: true });
    });
  }

  #effect(id: string): void {
    this.effects.push(id);
  }

  async #beat(link: ChosenLink, incarnation: string, everyMs: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await link
        .sendHeartbeat({
          ...{ vmId: this.vmId, poolId: "pool-a", orgId: "acme", incarnation, migletState: "idle" },
          sentAtMs: Date.now(),
          health: {
            ...{ cpuUsagePercent: 1, cpuLoad: 0, memoryUsedBytes: 1, memoryTotalBytes: 2 },
            ...{ diskUsedBytes: 1, diskTotalBytes: 2 },
          },
          runner: { state: "idle", configured: true, labels: [] },
        })
        .catch(() => {});
      await pause(everyMs, signal);
    }
  }

  /** As kill -9 leaves it: what is under way is not finished, and only the disk remembers. */
  async die(): Promise<void> {
    const parts = this.#parts;
    this.#parts = undefined;
    parts?.stop.abort();
    await this.#work;
    await parts?.link.close();
    parts?.http.close();
    await parts?.journal.close();
  }
}
