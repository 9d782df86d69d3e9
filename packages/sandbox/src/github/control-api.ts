import type { GithubClock } from "./clock.ts";
import type { Fault } from "./fault-types.ts";
import type { Faults } from "./faults.ts";
import type { Fleet } from "./fleet.ts";
import { Refusal, type Route, text } from "./http.ts";
import type { Installs } from "./installs.ts";
import type { ListeningPort } from "./listening-port.ts";
import type { Traffic } from "./traffic.ts";
import type { GithubControl, Job, JobRequest, RequestRecord } from "./types.ts";

/** What there is to steer. */
export interface Controlled {
  readonly fleet: Fleet;
  readonly faults: Faults;
  readonly installs: Installs;
  readonly clock: GithubClock;
  readonly traffic: Traffic;
  readonly port: () => ListeningPort;
  readonly requests: readonly RequestRecord[];
}

/** Steers the stand-in from inside its process. */
export function createControl(controlled: Controlled): GithubControl {
  const { fleet, faults, installs, clock, traffic, port, requests } = controlled;
  const skewAtStartMs = clock.skewMs;
  const requireJob = (id: number) => {
    const job = fleet.jobs.get(id);
    if (!job) throw new Refusal(404, `There is no job ${id}.`);
    return job;
  };
  const requireRunner = (id: number) => {
    const runner = fleet.runners.get(id);
    if (!runner) throw new Refusal(404, `There is no runner ${id}.`);
    return runner;
  };
  return {
    queueJob: async (request = {}) => publish(fleet.queue(request)),
    jobs: async () => [...fleet.jobs.values()].map(publish),
    job: async (id) => {
      const job = fleet.jobs.get(id);
      return job && publish(job);
    },
    cancelJob: async (id) => fleet.cancel(requireJob(id)),
    runners: async () => [...fleet.runners.values()].map((runner) => fleet.describe(runner)),
    deleteRunner: async (id) => fleet.end(requireRunner(id), "deleted"),
    pushUpdate: async (id, version) =>
      fleet.send(requireRunner(id), "RunnerRefresh", { target_version: version }),
    addFault: async (fault) => {
      if (fault.connect === undefined) faults.add(fault);
      else await port().leave(fault.connect, fault.forMs ?? 1_000);
    },
    clearFaults: async () => {
      faults.clear();
      clock.skewMs = skewAtStartMs;
      await port().comeBack();
    },
    requests: async () => [...requests],
    traffic: async () => traffic.report(),
    install: async (owner) => installs.install(owner),
    uninstall: async (owner) => installs.uninstall(owner),
    suspend: async (owner, isSuspended) => installs.suspend(owner, isSuspended),
    renameRepository: async (from, to) => installs.rename(from, to),
    setClock: async (skewMs) => {
      clock.skewMs = skewMs;
    },
  };
}

/** The same over HTTP, for tests and programs outside the process. */
export function controlRoutes(control: GithubControl): readonly Route[] {
  const ok = (body: unknown) => ({ status: 200, body });
  const done = async (work: Promise<void>) => {
    await work;
    return { status: 204 };
  };
  return [
    [
      "POST",
      /^\/_sandbox\/jobs$/,
      async ({ body }) => ({ status: 201, body: await control.queueJob(body as JobRequest) }),
    ],
    ["GET", /^\/_sandbox\/jobs$/, async () => ok(await control.jobs())],
    [
      "GET",
      /^\/_sandbox\/jobs\/(\d+)$/,
      async (_call, id) => {
        const job = await control.job(Number(id));
        if (!job) throw new Refusal(404, `There is no job ${id}.`);
        return ok(job);
      },
    ],
    ["POST", /^\/_sandbox\/jobs\/(\d+)\/cancel$/, (_call, id) => done(control.cancelJob(Number(id)))],
    ["GET", /^\/_sandbox\/runners$/, async () => ok(await control.runners())],
    ["DELETE", /^\/_sandbox\/runners\/(\d+)$/, (_call, id) => done(control.deleteRunner(Number(id)))],
    [
      "POST",
      /^\/_sandbox\/runners\/(\d+)\/update$/,
      ({ body }, id) => done(control.pushUpdate(Number(id), text(body["version"]))),
    ],
    [
      "POST",
      /^\/_sandbox\/faults$/,
      ({ body }) => done(control.addFault({ path: "", ...(body as Partial<Fault>) })),
    ],
    ["DELETE", /^\/_sandbox\/faults$/, () => done(control.clearFaults())],
    ["GET", /^\/_sandbox\/requests$/, async () => ok(await control.requests())],
    ["GET", /^\/_sandbox\/traffic$/, async () => ok(await control.traffic())],
    [
      "POST",
      /^\/_sandbox\/installations$/,
      async ({ body }) => ok(await control.install(text(body["owner"]))),
    ],
    ["DELETE", /^\/_sandbox\/installations$/, ({ body }) => done(control.uninstall(text(body["owner"])))],
    [
      "PATCH",
      /^\/_sandbox\/installations$/,
      ({ body }) => done(control.suspend(text(body["owner"]), body["suspended"] === true)),
    ],
    [
      "POST",
      /^\/_sandbox\/renames$/,
      ({ body }) => done(control.renameRepository(text(body["from"]), text(body["to"]))),
    ],
    ["POST", /^\/_sandbox\/clock$/, ({ body }) => done(control.setClock(Number(body["skewMs"] ?? 0)))],
  ];
}

function publish(job: Job & { handedMs?: number; renewedMs?: number }): Job {
  const { handedMs: _handed, renewedMs: _renewed, ...published } = job;
  return published;
}
