import { type Log, pause } from "@mig/kit";
import { type Heartbeat, maybe, PRODUCT_VERSION, type PreemptionData } from "@mig/protocol";
import { type CloudFacts, describeCloud } from "./boot/cloud-facts.ts";
import { findUser } from "./boot/find-user.ts";
import { openIdentity } from "./boot/identity/open-identity.ts";
import type { Settings } from "./boot/settings-table.ts";
import { type Collector, createCollector } from "./diagnostics/collector.ts";
import type { RecentLines } from "./diagnostics/recent-lines.ts";
import { createPulse, type HeartbeatPulse } from "./heartbeat/beat.ts";
import { createLinkKeeper } from "./keep-link.ts";
import { createLocalKeeper, type LocalKeeper } from "./keep-local.ts";
import { createRunnerKeeper, type RunnerKeeper } from "./keep-runner.ts";
import type { Input, State } from "./life/words.ts";
import type { ChosenLink } from "./link/choose-link.ts";
import { type ControllerClock, createControllerClock, type Skew } from "./link/controller-clock.ts";
import type { HttpCalls } from "./link/http-calls.ts";
import type { Inbox } from "./link/inbox.ts";
import type { Speaker } from "./link/link.ts";
import { createOutbox, type Outbox } from "./link/outbox.ts";
import { createTlsSource } from "./link/tls-material.ts";
import { traceparentOf } from "./link/trace.ts";
import type { Memory } from "./memory/open-memory.ts";
import type { RunnerEnvironment } from "./runner/environment.ts";
import { reportOf, statusOf } from "./status.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Everything that `perform.ts` acts with. They tell what happens by inputs and decide nothing. */
export interface Hands {
  readonly settings: Settings;
  /** The agent's own environment, of which the runner gets a part. */
  readonly environment: Environment;
  readonly facts: CloudFacts | undefined;
  /** For log lines: the pool and organization, once they are known. */
  belongs(): Record<string, string>;
  readonly memory: Memory;
  readonly http: HttpCalls | undefined;
  readonly link: ChosenLink;
  readonly controllerClock: ControllerClock;
  readonly outbox: Outbox;
  readonly inbox: Inbox;
  readonly pulse: HeartbeatPulse;
  readonly runner: RunnerKeeper;
  readonly local: LocalKeeper;
  readonly collector: Collector;
  readonly log: Log;
  feed(input: Input): void;
  /** Resolves when no answer to a command is under way, or after `withinMs`. */
  whenAnswered(withinMs: number): Promise<void>;
  close(): Promise<void>;
}

export interface HandsSettings {
  settings: Settings;
  environment: Environment;
  facts?: CloudFacts;
  memory: Memory;
  log: Log;
  /** What the log has said last, for diagnostics. */
  recent?: RecentLines;
  state(): State;
  feed(input: Input): void;
  /** An input goes through the mailbox. */
  isAlive(): Promise<boolean>;
}

/** Throws `settings_invalid` when a file that TLS needs cannot be used. */
export async function openHands(about: HandsSettings): Promise<Hands> {
  const { settings, memory, log, feed, state } = about;
  const part = (component: string): Log => log.child({ component });
  const tls = createTlsSource({
    caPath: settings["controller.ca_path"],
    certPath: settings["controller.tls.cert_path"],
    keyPath: settings["controller.tls.key_path"],
    caPin: settings["controller.tls.ca_pin"],
    log: part("link"),
  });
  await tls();
  const controllerClock = createControllerClock({ onSkew: (skew) => tellSkew(skew, outbox, part("link")) });
  const identity = await openIdentity({
    settings,
    tls,
    controllerClock,
    onContradiction: (message) => feed({ on: "refused", refusal: { code: "settings_invalid", message } }),
    log: part("identity"),
  });
  const speaker: Speaker = {
    vmId: settings.vm_id,
    get poolId() {
      return identity.poolId();
    },
    get orgId() {
      return identity.orgId();
    },
    incarnation: memory.state.read().incarnation,
    version: PRODUCT_VERSION,
    migletState: () => state().at,
  };
  const way = createLinkKeeper({ settings, speaker, memory, identity, tls, controllerClock, feed, log });
  const { http, link, inbox } = way;
  const outbox = createOutbox({
    speaker,
    spool: memory.spool,
    said: memory.said,
    leftovers: memory.leftovers,
    send: (events) => link.sendEvents(events),
    traceOf: (eventId) => {
      const { incarnation, runner: registered } = memory.state.read();
      return traceparentOf(`${incarnation}/${registered?.commandId ?? ""}`, eventId);
    },
    deadLetterPath: memory.deadLetterPath,
    retryFirstMs: settings["controller.retry.initial_backoff"],
    retryCapMs: settings["controller.retry.max_backoff"],
    log: part("outbox"),
  });
  const local = await createLocalKeeper({ ...about, poolId: identity.poolId, controllerClock });
  const pulse = createPulse({
    intervalMs: settings["heartbeat.interval"],
    async make(): Promise<Heartbeat> {
      await identity.settled();
      const { migletState, runner, job } = reportOf(state());
      return {
        vmId: speaker.vmId,
        poolId: speaker.poolId,
        ...maybe("orgId", speaker.orgId),
        incarnation: speaker.incarnation,
        migletState,
        sentAtMs: Date.now(),
        health: await local.sampler.newest(),
        runner,
        ...maybe("currentJob", job),
      };
    },
    send: (beat) => link.sendHeartbeat(beat),
    log: part("heartbeat"),
  });
  const environment = await runnerEnvironment(about);
  const runner = createRunnerKeeper({
    settings,
    memory,
    environment,
    ...(http === undefined ? {} : { release: () => http.releaseRunner() }),
    feed,
    log: part("registration"),
  });
  const collector = createCollector({
    settings,
    memory,
    ...maybe("recent", about.recent),
    status: () => ({
      ...statusOf(state()),
      is_linked: state().linked,
      channel: link.channel() ?? null,
      cloud: about.facts === undefined ? null : describeCloud(about.facts),
    }),
    ...maybe("bring", way.bring),
    log: part("diagnostics"),
  });
  const closing = new AbortController();
  watchTheCloud(about, closing.signal, part("preemption"));
  return {
    settings,
    environment: about.environment,
    facts: about.facts,
    belongs: () => ({
      ...(identity.poolId() === "" ? {} : { pool_id: identity.poolId() }),
      ...maybe("org_id", identity.orgId()),
    }),
    memory,
    http,
    link,
    controllerClock,
    outbox,
    inbox,
    pulse,
    runner,
    local,
    collector,
    log,
    feed,
    whenAnswered: way.whenAnswered,
    async close() {
      closing.abort();
      collector.stop();
      // Nothing here is worth more than a moment: whatever matters is on disk.
      for (const part of [runner.release(), pulse.close(), link.close(), outbox.close(), local.close()])
        await Promise.race([part, pause(closeMs)]);
      way.close();
      identity.close();
      await memory.close();
    },
  };
}

const closeMs = 3_000;

/** Loaded only where a cloud was found: most of what watches it is never needed elsewhere. */
function watchTheCloud({ settings, facts, feed }: HandsSettings, signal: AbortSignal, log: Log): void {
  if (facts === undefined || !settings["metadata.watch_preemption"]) return;
  const endpoint = settings["metadata.endpoint"];
  const onNotice = (notice: PreemptionData): void => feed({ on: "preempted", notice });
  import("./boot/watch-preemption.ts")
    .then(({ watchPreemption }) => watchPreemption({ facts, endpoint, signal, onNotice, log }))
    .catch((error: unknown) => log.warn({ error }, "The cloud's notices cannot be watched."));
}

function tellSkew({ skewMs, isOff }: Skew, outbox: Outbox, log: Log): void {
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  const message = isOff
    ? `This VM's clock is ${seconds} s ${skewMs > 0 ? "ahead of" : "behind"} the controller's: set it (NTP).`
    : "This VM's clock is right again.";
  log.warn({ skew_ms: Math.round(skewMs), is_off: isOff }, message);
  if (!isOff) return;
  outbox
    .append("error", {
      code: "clock_skewed",
      category: "infrastructure",
      fatal: false,
      message,
      skew_ms: Math.round(skewMs),
    })
    .catch((error: unknown) => log.warn({ error }, "The skew could not be reported."));
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
