import { createBackoff, type Log, pause } from "@mig/kit";
import { maybe, type PreemptionData } from "@mig/protocol";
import { type AwsSession, openAwsSession } from "./aws-metadata.ts";
import type { CloudFacts } from "./cloud-facts.ts";
import { askGcp } from "./gcp-metadata.ts";
import { type MetadataService, openMetadataService } from "./metadata-request.ts";

export interface WatchPreemption {
  readonly facts: Pick<CloudFacts, "cloud" | "isSpot">;
  /** The setting metadata.endpoint. */
  readonly endpoint: string;
  readonly signal: AbortSignal;
  /** Called at most once. */
  readonly onNotice: (notice: PreemptionData) => void;
  readonly log: Log;
  readonly timing?: Partial<PreemptionTiming>;
}

export interface PreemptionTiming {
  /** How long GCP may hold a question. */
  readonly holdMs: number;
  /** Between two questions to AWS, which holds none. */
  readonly everyMs: number;
  /** For an answer, beyond what the question is held. */
  readonly answerMs: number;
  readonly retryFirstMs: number;
  readonly retryCapMs: number;
}

const usual: PreemptionTiming = {
  holdMs: 60_000,
  everyMs: 5_000,
  answerMs: 5_000,
  retryFirstMs: 1_000,
  retryCapMs: 60_000,
};

interface Watch {
  readonly service: MetadataService;
  readonly signal: AbortSignal;
  readonly timing: PreemptionTiming;
  readonly log: Log;
  notice(notice: PreemptionData): void;
}

/**
 * Listens for the cloud's word that it will take this VM away, until `signal` or the first such word. Resolves then;
 * never rejects. A metadata service that fails is asked again, ever more slowly: it must not cost a job its VM.
 */
export async function watchPreemption(about: WatchPreemption): Promise<void> {
  const { facts, endpoint, signal, log } = about;
  const over = new AbortController();
  const end = (): void => over.abort();
  if (signal.aborted) return;
  signal.addEventListener("abort", end, { once: true });
  const service = openMetadataService(endpoint);
  const watch: Watch = {
    service,
    signal: over.signal,
    timing: { ...usual, ...about.timing },
    log,
    notice(notice) {
      if (over.signal.aborted) return;
      end();
      about.onNotice(notice);
    },
  };
  try {
    if (facts.cloud === "gcp")
      await Promise.all([
        holdGcp(watch, "preempted", (value) =>
          value === "TRUE" ? gcpNotice("preempted", 30_000) : undefined,
        ),
        holdGcp(watch, "maintenance-event", (value) =>
          value === "TERMINATE_ON_HOST_MAINTENANCE" ? gcpNotice("terminate", 60_000) : undefined,
        ),
      ]);
    // An on-demand instance of EC2 gets no such word.
    else if (facts.isSpot !== false) await pollAws(watch);
  } catch (error) {
    log.error({ error }, "The watch for preemption has failed; a preemption will come without notice.");
  } finally {
    signal.removeEventListener("abort", end);
    service.close();
  }
}

/** Compute Engine: 30 seconds before a preemption, 60 before a host maintenance that terminates. */
const gcpNotice = (action: string, leftMs: number): PreemptionData => ({
  cloud: "gcp",
  action,
  deadlineMs: Date.now() + leftMs,
});

/** A question that the service holds until the value is another than the one that was seen. */
async function holdGcp(
  { service, signal, timing, log, notice }: Watch,
  name: string,
  judge: (value: string) => PreemptionData | undefined,
): Promise<void> {
  const backoff = createBackoff({ firstMs: timing.retryFirstMs, capMs: timing.retryCapMs });
  let etag: string | undefined;
  while (!signal.aborted) {
    // The first question is not held: what was said while nobody listened must be heard.
    const hold =
      etag === undefined
        ? ""
        : `?wait_for_change=true&timeout_sec=${Math.ceil(timing.holdMs / 1_000)}&last_etag=${encodeURIComponent(etag)}`;
    const timeoutMs = timing.answerMs + (etag === undefined ? 0 : timing.holdMs);
    const answer = await askGcp(service, `instance/${name}${hold}`, timeoutMs, { signal, attemptsMax: 1 });
    if (signal.aborted) return;
    const seen = answer.headers.etag;
    if (answer.status === 200 && typeof seen === "string") {
      const found = judge(answer.body.toString("utf8").trim());
      if (found !== undefined) return notice(found);
      // Answered at once and with the same: a service that does not hold must not be asked without a pause.
      const isHeld = seen !== etag || etag === undefined;
      etag = seen;
      if (isHeld) {
        backoff.reset();
        continue;
      }
      await pause(Math.min(timing.everyMs, timing.retryCapMs), signal);
      continue;
    }
    etag = undefined;
    log.debug(
      { name, status: answer.status, why: answer.why },
      "The metadata service does not say whether this VM stays.",
    );
    await pause(backoff.nextMs(), signal);
  }
}

/** EC2: `spot/instance-action` is not found until the notice comes, two minutes ahead. */
async function pollAws({ service, signal, timing, log, notice }: Watch): Promise<void> {
  const session = openAwsSession(service);
  const backoff = createBackoff({
    firstMs: Math.max(timing.retryFirstMs, timing.everyMs),
    capMs: timing.retryCapMs,
  });
  let isRebalanceTold = false;
  while (!signal.aborted) {
    const answer = await session.ask("/latest/meta-data/spot/instance-action", timing.answerMs, signal);
    const found = answer.status === 200 ? readAction(answer.body) : undefined;
    if (found !== undefined) return notice(found);
    if (!isRebalanceTold) isRebalanceTold = await tellRebalance(session, { timing, log, signal });
    const isWell = answer.status === 404;
    if (isWell) backoff.reset();
    else
      log.debug(
        { status: answer.status, why: answer.why },
        "The metadata service does not say whether this VM stays.",
      );
    await pause(isWell ? timing.everyMs : backoff.nextMs(), signal);
  }
}

function readAction(body: Buffer): PreemptionData | undefined {
  try {
    const { action, time } = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
    if (typeof action !== "string" || !/^[a-z]{1,32}$/.test(action)) return undefined;
    const deadlineMs = typeof time === "string" ? Date.parse(time) : Number.NaN;
    return {
      cloud: "aws",
      action,
      ...maybe("deadlineMs", Number.isNaN(deadlineMs) ? undefined : deadlineMs),
    };
  } catch {
    return undefined;
  }
}

/** Only a higher risk, and often none: a job is not given up for it. */
async function tellRebalance(
  session: AwsSession,
  { timing, log, signal }: Pick<Watch, "timing" | "log" | "signal">,
): Promise<boolean> {
  const path = "/latest/meta-data/events/recommendations/rebalance";
  const { status } = await session.ask(path, timing.answerMs, signal);
  if (status === 200) log.warn({ cloud: "aws" }, "EC2 says that this VM is more likely to be interrupted.");
  return status === 200;
}
