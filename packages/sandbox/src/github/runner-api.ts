/**
 * The calls that a runner makes: registration (runner-contract §2.5), the broker (session, long poll,
 * acknowledgement) and the run service (acquire, renew, complete).
 *
 * Two simplifications, both invisible to a supervising agent: the client id itself is the bearer token
 * (the real Listener exchanges a signed assertion for one), and progress of steps is one call of the run service.
 */
import { jobScript } from "../runner/scenarios.ts";
import type { Access } from "./access.ts";
import type { Fleet } from "./fleet.ts";
import type { MutableJob, Runner } from "./fleet-types.ts";
import { type Call, isRecord, Refusal, type Reply, type Route, text } from "./http.ts";
import { jobMessage } from "./job-message.ts";
import { type GithubOptions, taskResults } from "./types.ts";

export function runnerRoutes(access: Access, fleet: Fleet, options: GithubOptions): readonly Route[] {
  const pollMs = options.pollMs ?? 50_000;

  const requireClient = (call: Call): Runner => {
    const runner = fleet.client(call.authorization.replace(/^Bearer /i, ""));
    if (!runner || runner.registration === "deleted") {
      throw new Refusal(404, "The runner registration has been deleted from the server.");
    }
    return runner;
  };

  const requireJob = (call: Call): MutableJob => {
    const guid = text(call.body["jobId"]);
    const job = [...fleet.jobs.values()].find((candidate) => candidate.guid === guid);
    if (!job || job.status === "queued") throw new Refusal(404, "Job not found.");
    return job;
  };

  const startRegistration = (call: Call): Reply => {
    const kind = call.body["runner_event"] === "remove" ? "remove" : "registration";
    const scope = access.requireRunnerToken(call, kind);
    const path = new URL(text(call.body["url"]), call.baseUrl).pathname.replace(/^\/+|\/+$/g, "");
    if (path.toLowerCase() !== scope.toLowerCase()) throw new Refusal(404, "Not Found");
    const body = { url: `${call.baseUrl}/_services/`, token_schema: "OAuthAccessToken", use_v2_flow: true };
    return { status: 200, body: { ...body, token: "stand-in" } };
  };

  const register = (call: Call): Reply => {
    const scope = access.requireRunnerToken(call, "registration");
    const { name, group_id, labels, ephemeral, updates_disabled, replace, runner_id } = call.body;
    if (!text(name) || group_id !== 1) throw new Refusal(422, "Validation Failed");
    const old = fleet.named(scope, text(name));
    if (old && !(replace === true && runner_id === old.id)) {
      throw new Refusal(409, `Already exists - A runner with the name ${text(name)} already exists.`);
    }
    if (old) fleet.end(old, "deleted");
    const runner = fleet.register({
      name: text(name),
      scope,
      labels: Array.isArray(labels) ? labels.filter(isRecord).map((label) => text(label["name"])) : [],
      groupId: 1,
      ephemeral: ephemeral === true,
      disableUpdate: updates_disabled === true,
    });
    const authorization = {
      authorization_url: `${call.baseUrl}/_services/oauth2/token`,
      client_id: runner.clientId,
      server_url: `${call.baseUrl}/broker/`,
    };
    return { status: 200, body: { id: runner.id, name: runner.name, authorization } };
  };

  const openSession = (call: Call): Reply => {
    const runner = requireClient(call);
    if (runner.registration !== "listed") {
      throw new Refusal(404, "The runner registration has been deleted from the server.");
    }
    const agent = isRecord(call.body["agent"]) ? call.body["agent"] : {};
    const session = fleet.openSession(runner, text(agent["version"]), text(agent["osDescription"]));
    if (session === "conflict") {
      throw new Refusal(409, `The actions runner ${runner.name} already has an active session.`);
    }
    return { status: 200, body: { sessionId: session.id, ownerName: text(call.body["ownerName"]) } };
  };

  const poll = async (call: Call): Promise<Reply> => {
    const runner = requireClient(call);
    const { session } = runner;
    if (!session || session.id !== call.query.get("sessionId")) {
      throw new Refusal(401, "The session has expired.");
    }
    const endMs = Date.now() + pollMs;
    session.polling = true;
    fleet.assign();
    try {
      while (!call.gone.aborted) {
        if (runner.registration === "deleted") throw new Refusal(404, "The runner no longer exists.");
        const message = runner.messages.shift();
        if (message) return { status: 200, body: message };
        if (Date.now() >= endMs || runner.session !== session) break;
        await waitForWake(runner, endMs - Date.now(), call.gone);
      }
      return { status: 202 };
    } finally {
      session.polling = false;
      session.lastSeenMs = Date.now();
    }
  };

  const acknowledge = (call: Call): Reply => {
    const { job } = requireClient(call);
    const status = job ? jobScript(job.scenario ?? "ok", job.overrides).acknowledgeStatus : 404;
    if (status !== undefined) {
      if (job) fleet.complete(job, "Canceled", "service", []);
      throw new Refusal(status, "The job is gone.");
    }
    return { status: 200, body: {} };
  };

  const acquire = (call: Call): Reply => {
    const runner = requireClient(call);
    const { job } = runner;
    const status = job ? jobScript(job.scenario ?? "ok", job.overrides).acquireStatus : undefined;
    if (job && status !== undefined) {
      fleet.complete(job, "Canceled", "service", []);
      throw new Refusal(status, "The job can not be acquired.");
    }
    const acquired = fleet.acquire(runner, text(call.body["jobMessageId"]));
    return { status: 200, body: jobMessage(acquired, runner, call.baseUrl) };
  };

  const complete = (call: Call): Reply => {
    const job = requireJob(call);
    const { conclusion, annotations, reportedBy } = call.body;
    const result = taskResults.find((known) => known === conclusion) ?? "Failed";
    const notes = Array.isArray(annotations) ? annotations.map(text) : [];
    fleet.complete(job, result, reportedBy === "listener" ? "listener" : "worker", notes);
    return { status: 200, body: {} };
  };

  const reportStep = (call: Call): Reply => {
    const job = requireJob(call);
    const isFirst = job.step === null;
    job.step = text(call.body["name"]);
    if (isFirst && jobScript(job.scenario ?? "ok", job.overrides).cancelAtFirstStep) fleet.cancel(job);
    return { status: 200, body: {} };
  };

  const renew = (call: Call): Reply => {
    const job = requireJob(call);
    if (job.status !== "in_progress") throw new Refusal(404, "Job not found.");
    job.renewals += 1;
    job.renewedMs = Date.now();
    const lockedUntil = new Date(job.renewedMs + (options.lockMs ?? 600_000)).toISOString();
    return { status: 200, body: { lockedUntil } };
  };

  return [
    ["POST", /^\/actions\/runner-registration$/, startRegistration],
    ["POST", /^\/actions\/runners\/register$/, register],
    ["POST", /^\/broker\/session$/, openSession],
    [
      "DELETE",
      /^\/broker\/session$/,
      (call) => {
        fleet.closeSession(requireClient(call));
        return { status: 200, body: {} };
      },
    ],
    ["GET", /^\/broker\/message$/, poll],
    ["POST", /^\/broker\/acknowledge$/, acknowledge],
    ["POST", /^\/run\/acquirejob$/, acquire],
    ["POST", /^\/run\/renewjob$/, renew],
    ["POST", /^\/run\/completejob$/, complete],
    ["POST", /^\/run\/steps$/, reportStep],
  ];
}

function waitForWake(runner: Runner, ms: number, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      gone.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    gone.addEventListener("abort", finish);
    runner.wake = finish;
  });
}
