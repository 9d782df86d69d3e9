import type { Fault } from "./fault-types.ts";
import type { GithubTraffic } from "./traffic.ts";
import type { GithubControl, Job, JobRequest, RequestRecord, RunnerRecord } from "./types.ts";

/** Steers a GitHub stand-in that runs in another process. */
export function connectGithub(url: string): GithubControl {
  const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${url}/_sandbox/${path}`, {
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (response.status === 404 && method === "GET") return undefined;
    if (!response.ok)
      throw new Error(`${method} ${path} of the GitHub stand-in answered ${response.status}.`);
    return response.status === 204 ? undefined : await response.json();
  };
  return {
    queueJob: async (request = {}) => (await call("POST", "jobs", request)) as Job,
    jobs: async () => (await call("GET", "jobs")) as Job[],
    job: async (id) => (await call("GET", `jobs/${id}`)) as Job | undefined,
    cancelJob: async (id) => void (await call("POST", `jobs/${id}/cancel`)),
    runners: async () => (await call("GET", "runners")) as RunnerRecord[],
    deleteRunner: async (id) => void (await call("DELETE", `runners/${id}`)),
    pushUpdate: async (id, version) => void (await call("POST", `runners/${id}/update`, { version })),
    addFault: async (fault: Fault) => {
      // JSON has no Infinity.
      const times = fault.times === Number.POSITIVE_INFINITY ? { times: null } : {};
      await call("POST", "faults", { ...fault, ...times });
    },
    clearFaults: async () => void (await call("DELETE", "faults")),
    requests: async () => (await call("GET", "requests")) as RequestRecord[],
    traffic: async () => (await call("GET", "traffic")) as GithubTraffic,
    install: async (owner) => (await call("POST", "installations", { owner })) as number,
    uninstall: async (owner) => void (await call("DELETE", "installations", { owner })),
    suspend: async (owner, isSuspended) =>
      void (await call("PATCH", "installations", { owner, suspended: isSuspended })),
    renameRepository: async (from, to) => void (await call("POST", "renames", { from, to })),
    setClock: async (skewMs) => void (await call("POST", "clock", { skewMs })),
  };
}

/** Queues one job at the stand-in below `url` and answers with it as queued. */
export function queueJob(url: string, request: JobRequest = {}): Promise<Job> {
  return connectGithub(url).queueJob(request);
}
