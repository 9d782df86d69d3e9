import type { JobOverrides, ScenarioName } from "../runner/scenarios.ts";
import type { Fault } from "./fault-types.ts";
import type { GithubLimits } from "./limits.ts";
import type { GithubTraffic } from "./traffic.ts";

/** What a GitHub stand-in is started with. Every wait has GitHub's own value as its default. */
export interface GithubOptions {
  readonly port?: number;
  /** Numeric App id; `iss` of a JWT must be this or `clientId`. Default 1234. */
  readonly appId?: number;
  readonly clientId?: string;
  /** The App's public key (PEM). Without it every well-formed App JWT is accepted unverified. */
  readonly publicKeyPem?: string;
  /** Accepted instead of `publicKeyPem`; the public half is derived from it. */
  readonly privateKeyPem?: string;
  /** Organization → installation id. Default: every organization, all under installation 1. */
  readonly installations?: Readonly<Record<string, number>>;
  /** What the App is granted at its installations. Default: what runners need, and `actions: write`. */
  readonly permissions?: Readonly<Record<string, string>>;
  /** The runner groups of every organization. Default: number 1, "Default". */
  readonly runnerGroups?: readonly RunnerGroup[];
  /** Without them the buckets are counted and told in headers, and nobody is refused. `githubLimits` are GitHub's. */
  readonly limits?: GithubLimits;
  /** GitHub's clock minus ours: in its `Date`, its word on JWTs, its expiries and resets. Default 0. */
  readonly clockSkewMs?: number;
  /** How long each REST call takes. Default 0. */
  readonly latencyMs?: number;
  /** A GitHub Enterprise Server says its version in each answer, and has no rate limits unless told. */
  readonly enterpriseVersion?: string;
  /** Serves HTTPS instead of HTTP. */
  readonly tls?: { readonly key: string; readonly cert: string };
  readonly installationTokenMs?: number;
  readonly registrationTokenMs?: number;
  /** How long one poll of a Listener is held open without a message (GitHub: about 50 s). */
  readonly pollMs?: number;
  /** How long after a DELETE an open poll learns of it (GitHub: 0–50 s). Default 0. */
  readonly deleteNoticeMs?: number;
  /** How long after its last poll a runner still counts as online. */
  readonly offlineAfterMs?: number;
  /** How long after its last poll a session still blocks another one of the same runner. */
  readonly sessionTtlMs?: number;
  /** How long a job message may stay unacquired before the job is queued again (GitHub: 60 s). */
  readonly acquireMs?: number;
  /** How long a job lives without a renewal of its lock (GitHub: 10 min). */
  readonly lockMs?: number;
  /** How long `busy` stays set after a job has ended (GitHub: up to minutes). Default 0. */
  readonly busyLingersMs?: number;
}

export interface RunnerGroup {
  readonly id: number;
  readonly name: string;
  readonly visibility?: "all" | "selected" | "private";
  readonly allowsPublicRepositories?: boolean;
  readonly inherited?: boolean;
  /** Non-empty restricts the group to these workflows. */
  readonly selectedWorkflows?: readonly string[];
}

export type JobStatus = "queued" | "in_progress" | "completed";
export type JobConclusion = "success" | "failure" | "cancelled" | "skipped";
/** `TaskResult` of actions/runner in the order of its values (runner-contract §4.2). */
export const taskResults = [
  "Succeeded",
  "SucceededWithIssues",
  "Failed",
  "Canceled",
  "Skipped",
  "Abandoned",
] as const;
export type TaskResult = (typeof taskResults)[number];

export interface JobRequest {
  /** All of these must be among the runner's labels. Default: none, so any runner of the owner may take it. */
  readonly labels?: readonly string[];
  readonly scenario?: ScenarioName;
  /** Changes to the scenario for this one job, e.g. `{ durationMs: 300 }`. */
  readonly overrides?: JobOverrides;
  readonly displayName?: string;
  /** `owner/name`; the owner decides which organization's runners may take it. Default `acme/app`. */
  readonly repository?: string;
  readonly workflow?: string;
  readonly jobKey?: string;
}

export interface Job {
  readonly id: number;
  readonly guid: string;
  readonly requestId: string;
  readonly runId: number;
  readonly runAttempt: number;
  readonly repository: string;
  readonly workflow: string;
  readonly jobKey: string;
  readonly displayName: string;
  readonly labels: readonly string[];
  /** Null leaves the choice to the installed runner (its FAKE_SCENARIO.json, else `ok`). */
  readonly scenario: ScenarioName | null;
  readonly overrides: JobOverrides;
  readonly status: JobStatus;
  readonly conclusion: JobConclusion | null;
  /** What was reported by the Worker or, after a crash, by the Listener. */
  readonly result: TaskResult | null;
  readonly reportedBy: "worker" | "listener" | "service" | null;
  readonly annotations: readonly string[];
  readonly runnerId: number | null;
  readonly runnerName: string | null;
  readonly renewals: number;
  /** The latest step that the Worker reported as begun. */
  readonly step: string | null;
  readonly createdAt: string;
  readonly assignedAt: string | null;
  readonly startedAt: string | null;
  readonly completedAt: string | null;
}

export interface RunnerRecord {
  readonly id: number;
  readonly name: string;
  /** `owner` or `owner/repo`. */
  readonly scope: string;
  readonly labels: readonly string[];
  readonly os: string;
  readonly version: string | null;
  readonly ephemeral: boolean;
  readonly disableUpdate: boolean;
  readonly groupId: number;
  readonly status: "online" | "offline";
  readonly busy: boolean;
}

export interface RequestRecord {
  readonly at: string;
  readonly method: string;
  readonly path: string;
  /** 0 when no whole answer was sent. */
  readonly status: number;
  /** The word before the token: "Bearer", "RemoteAuth". */
  readonly authorization: string;
  /** As the caller addressed it, with the port. */
  readonly host: string;
  /** "app", "installation 1", or nothing for others. */
  readonly actor?: string;
}

/** Looks into and steers a GitHub stand-in; the same in the process and over `/_sandbox`. */
export interface GithubControl {
  queueJob(request?: JobRequest): Promise<Job>;
  jobs(): Promise<readonly Job[]>;
  job(id: number): Promise<Job | undefined>;
  cancelJob(id: number): Promise<void>;
  runners(): Promise<readonly RunnerRecord[]>;
  /** Removes a runner whatever it is doing, as an administrator at GitHub can not. */
  deleteRunner(id: number): Promise<void>;
  /** Tells the Listener of an idle or busy runner to update itself. */
  pushUpdate(runnerId: number, version: string): Promise<void>;
  addFault(fault: Fault): Promise<void>;
  clearFaults(): Promise<void>;
  /** The latest requests, newest last, at most 20,000, without those of this control API. */
  requests(): Promise<readonly RequestRecord[]>;
  /** How many calls there were, how many at once, and who came back too early. */
  traffic(): Promise<GithubTraffic>;
  /** Installs the App for an owner, again perhaps, under a new number, which it answers with. */
  install(owner: string): Promise<number>;
  uninstall(owner: string): Promise<void>;
  suspend(owner: string, isSuspended: boolean): Promise<void>;
  /** `owner/name` has another name now; the old one leads there by 301 and 307. */
  renameRepository(from: string, to: string): Promise<void>;
  setClock(skewMs: number): Promise<void>;
}

export interface Github extends GithubControl, AsyncDisposable {
  /** Base of the REST API, as `https://api.github.com` is. The same API answers below `/api/v3`. */
  readonly url: string;
  /** Base for `--url`, as `https://github.com` is: `${webUrl}/ORG`. */
  readonly webUrl: string;
  readonly port: number;
  readonly appId: number;
  close(): Promise<void>;
}
