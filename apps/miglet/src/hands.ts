import { readFile } from "node:fs/promises";
import { type Log, pause } from "@mig/kit";
import { type CommandAnswer, type Heartbeat, maybe, PRODUCT_VERSION } from "@mig/protocol";
import { findUser } from "./boot/find-user.ts";
import type { Settings } from "./boot/settings-table.ts";
import { createPulse, type HeartbeatPulse } from "./heartbeat/beat.ts";
import { createHostMeter } from "./heartbeat/host.ts";
import { createRunnerKeeper, type RunnerKeeper } from "./keep-runner.ts";
import type { Input, State } from "./life/words.ts";
import { createBearerToken } from "./link/bearer-token.ts";
import { type ChosenLink, createChosenLink } from "./link/choose-link.ts";
import { createHttpCalls, type HttpCalls } from "./link/http-calls.ts";
import { createInbox, type Inbox } from "./link/inbox.ts";
import type { LinkListener, Speaker } from "./link/link.ts";
import { createOutbox, type Outbox } from "./link/outbox.ts";
import type { Memory } from "./memory/open-memory.ts";
import type { RunnerEnvironment } from "./runner/environment.ts";
import { reportOf } from "./status.ts";

/** Everything that `perform.ts` acts with. They tell what happens by inputs and decide nothing. */
export interface Hands {
  readonly settings: Settings;
  readonly memory: Memory;
  readonly http: HttpCalls | undefined;
  readonly link: ChosenLink;
  readonly outbox: Outbox;
  readonly inbox: Inbox;
  readonly pulse: HeartbeatPulse;
  readonly runner: RunnerKeeper;
  readonly log: Log;
  feed(input: Input): void;
  /** Resolves when no answer to a command is under way, or after `withinMs`. */
  whenAnswered(withinMs: number): Promise<void>;
  close(): Promise<void>;
}

export interface HandsSettings {
  settings: Settings;
  /** The agent's own environment, of which the runner gets a part. */
  environment: Readonly<Record<string, string | undefined>>;
  memory: Memory;
  log: Log;
  state(): State;
  feed(input: Input): void;
}

export async function openHands(about: HandsSettings): Promise<Hands> {
  const { settings, memory, log, feed, state } = about;
  const part = (component: string): Log => log.child({ component });
  const speaker: Speaker = {
    vmId: settings.vm_id,
    poolId: settings.pool_id,
    ...maybe("orgId", settings.org_id),
    incarnation: memory.state.read().incarnation,
    version: PRODUCT_VERSION,
    migletState: () => state().at,
  };
  const caPath = settings["controller.ca_path"];
  const ca = caPath === undefined ? undefined : await readFile(caPath, "utf8");
  const bearer = createBearerToken(
    settings["controller.auth.type"] === "none" ? undefined : settings["controller.auth.token_path"],
  );
  const endpoint = settings["controller.endpoint"];
  const access = { bearer, ...maybe("ca", ca) };
  const http =
    endpoint === undefined
      ? undefined
      : createHttpCalls({
          ...access,
          endpoint,
          vmId: speaker.vmId,
          incarnation: speaker.incarnation,
          timeoutMs: settings["controller.timeout"],
          log: part("http"),
        });

  let answering: Promise<void> = Promise.resolve();
  const inbox = createInbox({
    journal: memory.journal,
    // In order, and beside the mailbox: a slow controller must not hold up what the agent does about its runner.
    answer: (answer: CommandAnswer) => {
      answering = answering.then(() => link.answer(answer));
      return Promise.resolve();
    },
    log: part("inbox"),
  });
  const [firstMs, capMs] = [
    settings["controller.retry.initial_backoff"],
    settings["controller.retry.max_backoff"],
  ];
  const link = createChosenLink(
    {
      channel: settings["controller.channel"],
      speaker,
      http,
      grpcEndpoint:
        settings["controller.grpc_endpoint"] ??
        (endpoint === undefined ? undefined : new URL(endpoint).origin),
      bearer,
      ...maybe("grpcCa", ca),
      timing: {
        reconnectFirstMs: firstMs,
        reconnectCapMs: capMs,
        answerMs: Math.min(10_000, settings["heartbeat.timeout"]),
      },
      log: part("link"),
    },
    createListener(inbox, feed, part("link")),
  );
  const outbox = createOutbox({
    speaker,
    spool: memory.spool,
    said: memory.said,
    leftovers: memory.leftovers,
    send: (events) => link.sendEvents(events),
    deadLetterPath: memory.deadLetterPath,
    retryFirstMs: firstMs,
    retryCapMs: capMs,
    log: part("outbox"),
  });
  const measure = createHostMeter(settings["runner.dir"]);
  const pulse = createPulse({
    intervalMs: settings["heartbeat.interval"],
    async make(): Promise<Heartbeat> {
      const { migletState, runner, job } = reportOf(state());
      return {
        vmId: speaker.vmId,
        poolId: speaker.poolId,
        ...maybe("orgId", speaker.orgId),
        incarnation: speaker.incarnation,
        migletState,
        sentAtMs: Date.now(),
        health: await measure(),
        runner,
        ...maybe("currentJob", job),
      };
    },
    send: (beat) => link.sendHeartbeat(beat),
    log: part("heartbeat"),
  });
  const environment = await runnerEnvironment(about);
  const runner = createRunnerKeeper({ settings, memory, environment, feed, log: part("registration") });
  return {
    settings,
    memory,
    http,
    link,
    outbox,
    inbox,
    pulse,
    runner,
    log,
    feed,
    whenAnswered: (withinMs) => Promise.race([answering, pause(withinMs)]),
    async close() {
      // Nothing here is worth more than a moment: whatever matters is on disk.
      for (const part of [runner.release(), pulse.close(), link.close(), outbox.close()])
        await Promise.race([part, pause(closeMs)]);
      http?.close();
      await memory.close();
    },
  };
}

const closeMs = 3_000;

function createListener(inbox: Inbox, feed: (input: Input) => void, log: Log): LinkListener {
  return {
    onUp(up) {
      log.info({ ...up }, "A channel to the controller is open.");
      feed({ on: "link_up" });
      // Controllers from before MIG read no results.
      if (up.protocolVersion > 0)
        inbox
          .repeatResults()
          .catch((error: unknown) => log.warn({ error }, "Results could not be repeated."));
    },
    onDown(reason) {
      log.warn({ error: reason }, "The channel to the controller is gone.");
      feed({ on: "link_down" });
    },
    onCommand(command) {
      inbox.admit(command).then(
        (verdict) => {
          if (verdict === "new") feed({ on: "command", command });
        },
        (error: unknown) => log.error({ error, command_id: command.id }, "A command could not be taken in."),
      );
    },
    onGoAway: (goAway) => log.info({ ...goAway }, "The controller asks the channel to go."),
    onRefused(refusal) {
      log.warn({ ...refusal }, "The controller refuses this VM.");
      feed({ on: "refused", refusal });
    },
  };
}

async function runnerEnvironment({ settings, environment }: HandsSettings): Promise<RunnerEnvironment> {
  const user = settings["runner.user"];
  // A user that does not exist is what the prerequisites will say; here it must only not be root.
  const found = user === undefined ? undefined : await findUser(user).catch(() => undefined);
  return {
    host: environment,
    ...maybe("user", found),
    ...(settings["runner.allow_root"] ? { extra: { RUNNER_ALLOW_RUNASROOT: "1" } } : {}),
  };
}
