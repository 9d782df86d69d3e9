import type { Faults } from "./faults.ts";
import type { Fleet } from "./fleet.ts";
import { Refusal, type Route, text } from "./http.ts";
import type { Fault, GithubControl, Job, JobRequest, RequestRecord } from "./types.ts";

/** Steers the stand-in from inside its process. */
export function createControl(
  fleet: Fleet,
  faults: Faults,
  requests: readonly RequestRecord[],
): GithubControl {
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
    addFault: async (fault) => faults.add(fault),
    clearFaults: async () => faults.clear(),
    requests: async () => [...requests],
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
  ];
}

function publish(job: Job & { handedMs?: number; renewedMs?: number }): Job {
  const { handedMs: _handed, renewedMs: _renewed, ...published } = job;
  return published;
}
