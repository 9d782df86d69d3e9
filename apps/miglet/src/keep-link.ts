import { type Log, pause } from "@mig/kit";
import type { CommandAnswer } from "@mig/protocol";
import type { IdentityKeeper } from "./boot/identity/open-identity.ts";
import type { Settings } from "./boot/settings-table.ts";
import type { Input } from "./life/words.ts";
import { type ChosenLink, createChosenLink } from "./link/choose-link.ts";
import type { ControllerClock } from "./link/controller-clock.ts";
import { resolveGrpcEndpoint } from "./link/endpoint.ts";
import { createHttpCalls, type HttpCalls } from "./link/http-calls.ts";
import { createInbox, type Inbox } from "./link/inbox.ts";
import type { LinkListener, Speaker } from "./link/link.ts";
import type { NatsSettings } from "./link/nats-access.ts";
import type { TlsSource } from "./link/tls-material.ts";
import type { Memory } from "./memory/open-memory.ts";

/** The way to the controller: one channel, HTTP beside it, and the commands that come. */
export interface LinkKeeper {
  /** Undefined when no HTTP address is set: then the channel must do everything. */
  readonly http: HttpCalls | undefined;
  /** Brings bundles of diagnostics; undefined when no address is known that speaks HTTP. */
  readonly bring: HttpCalls["putDiagnostics"] | undefined;
  readonly link: ChosenLink;
  readonly inbox: Inbox;
  /** Resolves when no answer to a command is under way, or after `withinMs`. */
  whenAnswered(withinMs: number): Promise<void>;
  /** The connections of HTTP; the link is closed by itself. */
  close(): void;
}

export interface LinkKeeperSettings {
  settings: Settings;
  speaker: Speaker;
  memory: Memory;
  identity: IdentityKeeper;
  tls: TlsSource;
  controllerClock: ControllerClock;
  feed(input: Input): void;
  log: Log;
}

export function createLinkKeeper(about: LinkKeeperSettings): LinkKeeper {
  const { settings, speaker, memory, identity, tls, controllerClock, feed, log } = about;
  const part = (component: string): Log => log.child({ component });
  const access = { bearer: identity.bearer, tls, controllerClock };
  const endpoint = settings["controller.endpoint"];
  const callsTo = (address: string): HttpCalls =>
    createHttpCalls({
      ...access,
      endpoint: address,
      vmId: speaker.vmId,
      incarnation: speaker.incarnation,
      timeoutMs: settings["controller.timeout"],
      heartbeatMs: settings["heartbeat.timeout"],
      log: part("http"),
    });
  const http = endpoint === undefined ? undefined : callsTo(endpoint);
  const grpcEndpoint = resolveGrpcEndpoint(settings["controller.grpc_endpoint"], endpoint);
  // No channel carries a bundle: it is larger than a message of most, and would hold up what is behind it. It goes by HTTP
  // whatever the channel is, NATS too: to controller.endpoint, or to the address of gRPC, because each port of a
  // controller speaks both.
  const byHttp = http ?? (grpcEndpoint === undefined ? undefined : callsTo(grpcEndpoint));
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
      nats: natsOf(settings),
      grpcEndpoint,
      timing: {
        reconnectFirstMs: settings["controller.retry.initial_backoff"],
        reconnectCapMs: settings["controller.retry.max_backoff"],
        answerMs: Math.min(10_000, settings["heartbeat.timeout"]),
      },
      log: part("link"),
    },
    createListener(inbox, identity, feed, part("link")),
  );
  return {
    http,
    bring: byHttp?.putDiagnostics,
    link,
    inbox,
    whenAnswered: (withinMs) => Promise.race([answering, pause(withinMs)]),
    close: () => byHttp?.close(),
  };
}

/** `auto` tries NATS only where an operator has written where it is. */
function natsOf(settings: Settings): NatsSettings | undefined {
  const urls = settings["nats.url"]?.split(",").map((one) => one.trim());
  if (urls === undefined && settings["controller.channel"] !== "nats") return undefined;
  return { urls, credentialsPath: settings["nats.credentials_file"], prefix: settings["nats.prefix"] };
}

function createListener(
  inbox: Inbox,
  identity: IdentityKeeper,
  feed: (input: Input) => void,
  log: Log,
): LinkListener {
  return {
    onUp(up) {
      log.info({ ...up }, "A channel to the controller is open.");
      identity.onUp();
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
    onGoAway(goAway) {
      log.info({ ...goAway }, "The controller asks the channel to go.");
      identity.onGoAway(goAway.reason);
    },
    onRefused(refusal) {
      if (refusal.code === "unauthenticated") identity.doubt();
      log.warn({ ...refusal }, "The controller refuses this VM.");
      feed({ on: "refused", refusal });
    },
  };
}
