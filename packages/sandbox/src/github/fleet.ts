/**
 * What the GitHub stand-in knows about runners and jobs, and who gets which job.
 *
 * A runner registration is `listed` until it is `retired` (an ephemeral runner whose one job has ended, or a
 * ghost: gone for the REST API, while the Listener still polls in silence) or `deleted` (its next poll gets 404).
 * A job is `queued`, then handed to an online, idle runner whose labels fit (still `queued`: the message may get
 * lost), `in_progress` once it is acquired — only then is the runner busy — and `completed`.
 */
import { randomUUID } from "node:crypto";
import { jobScript } from "../runner/scenarios.ts";
import type { MutableJob, Runner, Session } from "./fleet-types.ts";
import { Refusal } from "./http.ts";
import type { GithubOptions, Job, JobRequest, RunnerRecord, TaskResult } from "./types.ts";

const conclusions = {
  Succeeded: "success",
  SucceededWithIssues: "success",
  Failed: "failure",
  Canceled: "cancelled",
  Skipped: "skipped",
  Abandoned: "failure",
} as const;

export class Fleet {
  readonly runners = new Map<number, Runner>();
  readonly #clients = new Map<string, Runner>();
  /** Ten thousand registrations in a benchmark: a name is not looked for in all of them. */
  readonly #names = new Map<string, Runner>();
  readonly jobs = new Map<number, MutableJob>();
  readonly #limits: { offlineAfterMs: number; acquireMs: number; lockMs: number; busyLingersMs: number };
  readonly #sessionTtlMs: number;
  readonly #deleteNoticeMs: number;
  #lastId = 20;
  #lastMessageId = 0;

  constructor(options: GithubOptions) {
    this.#limits = {
      offlineAfterMs: options.offlineAfterMs ?? 5_000,
      acquireMs: options.acquireMs ?? 60_000,
      lockMs: options.lockMs ?? 600_000,
      busyLingersMs: options.busyLingersMs ?? 0,
    };
    this.#sessionTtlMs = options.sessionTtlMs ?? 60_000;
    this.#deleteNoticeMs = options.deleteNoticeMs ?? 0;
  }

  register(
    wanted: Pick<Runner, "name" | "scope" | "labels" | "ephemeral" | "disableUpdate" | "groupId">,
  ): Runner {
    this.#lastId += 1;
    const runner: Runner = {
      ...wanted,
      id: this.#lastId,
      clientId: randomUUID(),
      os: "unknown",
      version: null,
      registration: "listed",
      session: null,
      job: null,
      busyUntilMs: 0,
      messages: [],
      wake: () => {},
    };
    this.runners.set(runner.id, runner);
    this.#names.set(nameKey(runner.scope, runner.name), runner);
    this.#clients.set(runner.clientId, runner);
    return runner;
  }

  list(scope: string): readonly Runner[] {
    return [...this.runners.values()].filter((runner) => sameText(runner.scope, scope));
  }

  named(scope: string, name: string): Runner | undefined {
    return this.#names.get(nameKey(scope, name));
  }

  client(clientId: string): Runner | undefined {
    return this.#clients.get(clientId);
  }

  isOnline(runner: Runner): boolean {
    const { session } = runner;
    return (
      session !== null && (session.polling || Date.now() - session.lastSeenMs < this.#limits.offlineAfterMs)
    );
  }

  isBusy(runner: Runner): boolean {
    return runner.job?.status === "in_progress" || Date.now() < runner.busyUntilMs;
  }

  describe(runner: Runner): RunnerRecord {
    const { id, name, scope, labels, os, version, ephemeral, disableUpdate, groupId } = runner;
    const status = this.isOnline(runner) ? "online" : "offline";
    const busy = this.isBusy(runner);
    return { id, name, scope, labels, os, version, ephemeral, disableUpdate, groupId, status, busy };
  }

  /** Ends a registration; what it was handed and had not acquired is queued again. */
  end(runner: Runner, how: "retired" | "deleted"): void {
    runner.registration = how;
    this.runners.delete(runner.id);
    const key = nameKey(runner.scope, runner.name);
    if (this.#names.get(key) === runner) this.#names.delete(key);
    if (runner.job?.status === "queued") this.#requeue(runner.job);
    if (how === "deleted") setTimeout(() => runner.wake(), this.#deleteNoticeMs).unref();
  }

  openSession(runner: Runner, version: string, os: string): Session | "conflict" {
    const held = runner.session;
    if (held && (held.polling || Date.now() - held.lastSeenMs < this.#sessionTtlMs)) return "conflict";
    runner.session = { id: randomUUID(), lastSeenMs: Date.now(), polling: false };
    runner.version = version;
    runner.os = os;
    this.assign();
    return runner.session;
  }

  closeSession(runner: Runner): void {
    runner.session = null;
    if (runner.registration !== "listed") this.#clients.delete(runner.clientId);
    if (runner.job?.status === "queued") this.#requeue(runner.job);
    runner.wake();
  }

  send(runner: Runner, messageType: string, body: unknown): void {
    this.#lastMessageId += 1;
    runner.messages.push({ messageId: this.#lastMessageId, messageType, body: JSON.stringify(body) });
    runner.wake();
  }

  queue(request: JobRequest): Job {
    const id = 3_000_001 + this.jobs.size;
    const script = jobScript(request.scenario ?? "ok", request.overrides);
    const job: MutableJob = {
      id,
      guid: randomUUID(),
      requestId: randomUUID(),
      runId: 9_000_001 + this.jobs.size,
      runAttempt: 1,
      repository: request.repository ?? "acme/app",
      workflow: request.workflow ?? "CI",
      jobKey: request.jobKey ?? "build",
      displayName: request.displayName ?? script.displayName ?? request.jobKey ?? "build",
      labels: request.labels ?? [],
      scenario: request.scenario ?? null,
      overrides: request.overrides ?? {},
      status: "queued",
      conclusion: null,
      result: null,
      reportedBy: null,
      annotations: [],
      runnerId: null,
      runnerName: null,
      renewals: 0,
      step: null,
      createdAt: new Date().toISOString(),
      assignedAt: null,
      startedAt: null,
      completedAt: null,
      handedMs: 0,
      renewedMs: 0,
    };
    this.jobs.set(id, job);
    this.assign();
    return job;
  }

  /** Hands queued jobs, oldest first, to online runners that have nothing to do and the right labels. */
  assign(): void {
    for (const job of this.jobs.values()) {
      if (job.status !== "queued" || job.assignedAt !== null) continue;
      const runner = [...this.runners.values()].find((candidate) => this.#fits(candidate, job));
      if (!runner) continue;
      runner.job = job;
      job.assignedAt = new Date().toISOString();
      job.handedMs = Date.now();
      this.send(runner, "RunnerJobRequest", {
        id: job.guid,
        runner_request_id: job.requestId,
        should_acknowledge: true,
        billing_owner_id: "U_stand-in",
      });
    }
  }

  #fits(runner: Runner, job: MutableJob): boolean {
    if (runner.registration !== "listed" || runner.job !== null || !this.isOnline(runner)) return false;
    const owner = job.repository.split("/")[0] ?? "";
    if (!sameText(runner.scope, owner) && !sameText(runner.scope, job.repository)) return false;
    return job.labels.every((label) => runner.labels.some((own) => sameText(own, label)));
  }

  acquire(runner: Runner, requestId: string): MutableJob {
    const { job } = runner;
    if (runner.registration !== "listed" || job?.requestId !== requestId || job.status !== "queued") {
      throw new Refusal(404, "Job not found.");
    }
    job.status = "in_progress";
    job.startedAt = new Date().toISOString();
    job.renewedMs = Date.now();
    job.runnerId = runner.id;
    job.runnerName = runner.name;
    return job;
  }

  complete(
    job: MutableJob,
    result: TaskResult,
    reportedBy: "worker" | "listener" | "service",
    annotations: readonly string[],
  ): void {
    if (job.status === "completed") return;
    Object.assign(job, {
      status: "completed",
      result,
      reportedBy,
      annotations,
      conclusion: conclusions[result],
      completedAt: new Date().toISOString(),
    });
    const runner = [...this.#clients.values()].find((candidate) => candidate.job === job);
    if (!runner) return;
    runner.job = null;
    runner.busyUntilMs = Date.now() + this.#limits.busyLingersMs;
    if (runner.ephemeral && runner.registration === "listed") this.end(runner, "retired");
    this.assign();
  }

  /** A queued job ends at once; a running one when its Worker says so. */
  cancel(job: MutableJob): void {
    if (job.status === "completed") throw new Refusal(409, "Cannot cancel a job that is completed.");
    const runner = [...this.runners.values()].find((candidate) => candidate.job === job);
    if (job.status === "in_progress" && runner) {
      this.send(runner, "JobCancellation", { jobId: job.guid, timeout: "00:05:00" });
    } else this.complete(job, "Canceled", "service", []);
  }

  /** Queues again what nobody acquired, and fails jobs whose lock nobody renewed. */
  sweep(): void {
    const now = Date.now();
    for (const job of this.jobs.values()) {
      if (job.status === "queued" && job.assignedAt && now - job.handedMs > this.#limits.acquireMs) {
        this.#requeue(job);
      }
      if (job.status === "in_progress" && now - job.renewedMs > this.#limits.lockMs) {
        const lost = `The self-hosted runner: ${job.runnerName} lost communication with the server.`;
        this.complete(job, "Failed", "service", [lost]);
      }
    }
  }

  #requeue(job: MutableJob): void {
    for (const runner of this.#clients.values()) {
      if (runner.job !== job) continue;
      runner.job = null;
      runner.messages.splice(0);
    }
    job.assignedAt = null;
    this.assign();
  }
}

function nameKey(scope: string, name: string): string {
  return `${scope} ${name}`.toLowerCase();
}

export function sameText(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
