import { type Log, pause } from "@mig/kit";
import type { CommandAnswer } from "@mig/protocol";
import type { Settings } from "./boot/settings-table.ts";
import type { Input } from "./life/words.ts";
import { createBearerToken } from "./link/bearer-token.ts";
import { type ChosenLink, createChosenLink } from "./link/choose-link.ts";
import { type ControllerClock, createControllerClock, type Skew } from "./link/controller-clock.ts";
import { resolveGrpcEndpoint } from "./link/endpoint.ts";
import { createHttpCalls, type HttpCalls } from "./link/http-calls.ts";
import { createInbox, type Inbox } from "./link/inbox.ts";
import type { LinkListener, Speaker } from "./link/link.ts";
import { createTlsSource } from "./link/tls-material.ts";
import type { Memory } from "./memory/open-memory.ts";

/** The way to the controller: one channel, HTTP beside it, and the commands that come. */
export interface LinkKeeper {
  /** Undefined when no HTTP address is set: then the channel must do everything. */
  readonly http: HttpCalls | undefined;
  readonly link: ChosenLink;
  readonly inbox: Inbox;
  readonly controllerClock: ControllerClock;
  /** Resolves when no answer to a command is under way, or after `withinMs`. */
  whenAnswered(withinMs: number): Promise<void>;
}

export interface LinkKeeperSettings {
  settings: Settings;
  speaker: Speaker;
  memory: Memory;
  feed(input: Input): void;
  onSkew(skew: Skew): void;
  log: Log;
}

/** Throws `settings_invalid` when a file that TLS needs cannot be used. */
export async function createLinkKeeper(about: LinkKeeperSettings): Promise<LinkKeeper> {
  const { settings, speaker, memory, feed, log } = about;
  const part = (component: string): Log => log.child({ component });
  const tls = createTlsSource({
    caPath: settings["controller.ca_path"],
    certPath: settings["controller.tls.cert_path"],
    keyPath: settings["controller.tls.key_path"],
    log: part("link"),
  });
  await tls();
  const controllerClock = createControllerClock({ onSkew: about.onSkew });
  const access = { bearer: bearerOf(settings), tls, controllerClock };
  const endpoint = settings["controller.endpoint"];
  const http =
    endpoint === undefined
      ? undefined
      : createHttpCalls({
          ...access,
          endpoint,
          vmId: speaker.vmId,
          incarnation: speaker.incarnation,
          timeoutMs: settings["controller.timeout"],
          heartbeatMs: settings["heartbeat.timeout"],
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
    clock: controllerClock,
    log: part("inbox"),
  });
  const link = createChosenLink(
    {
      ...access,
      channel: settings["controller.channel"],
      speaker,
      http,
      httpEndpoint: endpoint,
      grpcEndpoint: resolveGrpcEndpoint(settings["controller.grpc_endpoint"], endpoint),
      timing: {
        reconnectFirstMs: settings["controller.retry.initial_backoff"],
        reconnectCapMs: settings["controller.retry.max_backoff"],
        answerMs: Math.min(10_000, settings["heartbeat.timeout"]),
      },
      log: part("link"),
    },
    createListener(inbox, feed, part("link")),
  );
  return {
    http,
    link,
    inbox,
    controllerClock,
    whenAnswered: (withinMs) => Promise.race([answering, pause(withinMs)]),
  };
}

/** A file may be rotated, so it goes before a token that was given once. */
export function bearerOf(settings: Partial<Settings>): () => Promise<string | undefined> {
  if (settings["controller.auth.type"] === "none") return async () => undefined;
  const fromFile = createBearerToken(settings["controller.auth.token_path"]);
  const given = settings["controller.auth.token"];
  return async () => (await fromFile()) ?? given;
}

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
