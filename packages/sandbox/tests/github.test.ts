import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { waitFor } from "@mig/kit";
import { connectGithub, createAppKey, type GithubOptions, queueJob } from "@mig/sandbox";
import { afterEach, describe, expect, it } from "vitest";
import { appJwt, Lab } from "./lab.ts";

const runners = "/orgs/acme/actions/runners";
const jit = { runner_group_id: 1, labels: ["self-hosted", "gpu"] };

describe("the GitHub stand-in", () => {
  let lab: Lab | undefined;
  afterEach(() => lab?.close());
  const open = async (options: GithubOptions = {}) => {
    lab = await Lab.open(options);
    return lab;
  };

  it.each([
    { jwt: () => appJwt({}), status: 200, says: "" },
    { jwt: () => appJwt({}, createAppKey()), status: 401, says: "could not be decoded" },
    { jwt: () => "no.jwt", status: 401, says: "could not be decoded" },
    { jwt: () => appJwt({ exp: Date.now() / 1000 + 700 }), status: 401, says: "too far in the future" },
    { jwt: () => appJwt({ exp: Date.now() / 1000 - 1 }), status: 401, says: "('exp') must be" },
    { jwt: () => appJwt({ iat: Date.now() / 1000 + 60 }), status: 401, says: "'Issued at' claim" },
    { jwt: () => appJwt({ iss: "99" }), status: 404, says: "Integration not found" },
  ])("answers an App JWT with $status $says", async ({ jwt, status, says }) => {
    const { github } = await open();
    const headers = { authorization: `Bearer ${jwt()}`, "user-agent": "mig-tests" };
    const response = await fetch(`${github.url}/api/v3/app`, { headers });
    expect(response.status).toBe(status);
    expect(await response.text()).toContain(says);
    expect(response.headers.get("x-ratelimit-resource")).toBe("core");
    expect(response.headers.get("x-github-request-id")).toBeTruthy();
  });

  it("refuses a request without User-Agent, and expired and foreign tokens", async () => {
    const one = await open({ installationTokenMs: -1 });
    const { github } = one;
    const bare = await fetch(`${github.url}/app`, { headers: { "user-agent": "" } });
    expect(bare.status).toBe(403);
    const expired = await one.rest("GET", runners);
    expect(expired).toMatchObject({ status: 401, json: { message: "Bad credentials", status: "401" } });
    await one.close();
    const two = await open({ installations: { acme: 1, other: 2 } });
    expect((await two.rest("GET", "/orgs/other/actions/runners")).status).toBe(404);
    expect((await two.rest("GET", "/orgs/nobody/actions/runners")).status).toBe(404);
  });

  it("gives installation tokens no more than was asked for", async () => {
    const { github } = await open();
    const create = async (permissions: unknown) => {
      const response = await fetch(`${github.url}/app/installations/1/access_tokens`, {
        method: "POST",
        headers: { authorization: `Bearer ${appJwt({})}`, "user-agent": "mig-tests" },
        body: JSON.stringify({ permissions }),
      });
      return { status: response.status, json: (await response.json()) as { token: string } };
    };
    expect((await create({ contents: "write" })).status).toBe(422);
    const { json, status } = await create({ organization_self_hosted_runners: "read" });
    expect(status).toBe(201);
    expect(json.token.length).toBeGreaterThan(40);
    const refused = await fetch(`${github.url}${runners}/registration-token`, {
      method: "POST",
      headers: { authorization: `Bearer ${json.token}`, "user-agent": "mig-tests" },
    });
    expect(refused.status).toBe(403);
    expect(refused.headers.get("x-accepted-github-permissions")).toBe(
      "organization_self_hosted_runners=write",
    );
  });

  it("makes, lists, filters, pages and deletes runners", async () => {
    const { rest } = bound(await open());
    const first = await rest("POST", `${runners}/generate-jitconfig`, { name: "vm-1", ...jit });
    expect(first).toMatchObject({
      status: 201,
      json: {
        runner: {
          name: "vm-1",
          os: "unknown",
          status: "offline",
          busy: false,
          labels: [
            { name: "self-hosted", type: "read-only" },
            { name: "gpu", type: "custom" },
          ],
        },
      },
    });
    expect(first.headers.get("x-ratelimit-resource")).toBe("actions_runner_registration");
    const clash = await rest("POST", `${runners}/generate-jitconfig`, { name: "VM-1", ...jit });
    expect(clash).toMatchObject({
      status: 409,
      json: { message: "Already exists - A runner with the name VM-1 already exists." },
    });
    expect((await rest("POST", `${runners}/generate-jitconfig`, { name: "x" })).status).toBe(422);
    await rest("POST", `${runners}/generate-jitconfig`, { name: "vm-2", ...jit });
    await rest("POST", "/repos/acme/app/actions/runners/generate-jitconfig", { name: "vm-1", ...jit });
    const named = await rest("GET", `${runners}?name=vm-2`);
    expect(named.json).toMatchObject({ total_count: 1, runners: [{ name: "vm-2" }] });
    const paged = await rest("GET", `${runners}?per_page=1&page=2`);
    expect(paged.json).toMatchObject({ total_count: 2, runners: [{ name: "vm-2" }] });
    const id = (named.json["runners"] as { id: number }[])[0]?.id;
    expect((await rest("GET", `${runners}/${id}`)).status).toBe(200);
    expect((await rest("DELETE", `${runners}/${id}`)).status).toBe(204);
    expect((await rest("DELETE", `${runners}/${id}`)).status).toBe(404);
    expect((await rest("GET", "/orgs/acme/actions/runner-groups")).json).toMatchObject({ total_count: 1 });
  });

  it("refuses to delete a busy runner, and an idle one leaves by itself when deleted", async () => {
    const opened = await open();
    const { rest } = bound(opened);
    const busy = await opened.install();
    const working = await opened.startJit(busy);
    const job = await opened.github.queueJob({ scenario: "long" });
    const { runnerId, runnerName } = await opened.jobIs(job.id, "in_progress");
    const refused = await rest("DELETE", `${runners}/${runnerId}`);
    expect(refused).toMatchObject({
      status: 422,
      json: { message: `Bad request - Runner "${runnerName}" is still running a job"` },
    });
    const jobs = await rest("GET", `/repos/acme/app/actions/runs/${job.runId}/attempts/1/jobs`);
    expect(jobs.json).toMatchObject({ jobs: [{ runner_name: runnerName, status: "in_progress" }] });
    await opened.jobWorks(job.id);
    await opened.github.cancelJob(job.id);
    await working.exited;

    const idle = await opened.install();
    const waiting = await opened.startJit(idle);
    const [online] = await opened.github.runners();
    expect(online).toMatchObject({ status: "online", busy: false });
    expect((await rest("DELETE", `${runners}/${online?.id}`)).status).toBe(204);
    expect(await waiting.exited).toBe(0);
    expect(waiting.stderr).toBe(
      "The runner no longer exists on the server. Cleaning up local configuration.\n",
    );
    expect(waiting.stdout.endsWith("√ Removed .credentials\n√ Removed .runner\n")).toBe(true);
    expect(existsSync(join(idle.root, ".runner"))).toBe(false);
  });

  it("gives an ephemeral runner exactly one job and keeps the others queued", async () => {
    const opened = await open();
    const runner = await opened.install();
    const jobs = await Promise.all([opened.github.queueJob(), opened.github.queueJob({ labels: ["gpu"] })]);
    const third = await opened.github.queueJob();
    const program = await opened.startJit(runner);
    await program.exited;
    const states = await Promise.all([...jobs, third].map(({ id }) => opened.github.job(id)));
    expect(states.map((job) => job?.status)).toEqual(["completed", "queued", "queued"]);
    const again = opened.start(runner.listenerPath, ["run"]);
    expect(await again.exited).toBe(1);
  });

  it("fails a job whose lock nobody renews, after Listener and Worker were killed", async () => {
    const opened = await open({ lockMs: 300, offlineAfterMs: 50 });
    const runner = await opened.install();
    const program = await opened.startJit(runner);
    const job = await opened.github.queueJob({ scenario: "long" });
    await opened.jobWorks(job.id);
    process.kill(-program.pid, "SIGKILL");
    expect(await opened.jobIs(job.id, "completed")).toMatchObject({
      conclusion: "failure",
      reportedBy: "service",
      annotations: [expect.stringContaining("lost communication with the server")],
    });
  });

  it("holds a session against a second Listener of the same runner", async () => {
    const opened = await open();
    const runner = await opened.install();
    await opened.configure(runner, ["--name", "one"]);
    const first = opened.start(runner.listenerPath, ["run"]);
    await first.prints(/Listening for Jobs\n/);
    const second = opened.start(runner.listenerPath, ["run"]);
    await second.prints(/A session for this runner already exists\./);
    first.child.kill("SIGINT");
    await second.prints(/Runner reconnected\.\nCurrent runner version/);
  });

  it("leaves a ghost: registration gone, Listener listening", async () => {
    const opened = await open();
    const program = await opened.startJit(await opened.install());
    const job = await opened.github.queueJob({ scenario: "ghost-ack" });
    await opened.jobIs(job.id, "completed");
    expect(await opened.github.runners()).toEqual([]);
    await waitFor("the Listener to poll again", async () => {
      const polls = (await opened.github.requests()).filter(({ path }) => path.startsWith("/run/acquirejob"));
      return polls.some(({ status }) => status === 409);
    });
    expect(program.child.exitCode).toBeNull();
    expect(program.stdout).not.toContain("Running job");
  });

  it("fails on demand: status with headers, a lost response, silence", async () => {
    const opened = await open();
    const { rest } = bound(opened);
    const path = "generate-jitconfig$";
    await opened.github.addFault({ path, status: 403, headers: { "retry-after": "7" } });
    const limited = await rest("POST", `${runners}/generate-jitconfig`, { name: "a", ...jit });
    expect(limited.status).toBe(403);
    expect(limited.headers.get("retry-after")).toBe("7");
    await opened.github.addFault({ method: "POST", path, drop: "after" });
    await expect(rest("POST", `${runners}/generate-jitconfig`, { name: "a", ...jit })).rejects.toThrow();
    expect(await opened.github.runners()).toMatchObject([{ name: "a" }]);
    await opened.github.addFault({ path, hang: true });
    const headers = { "user-agent": "mig-tests" };
    const silent = fetch(`${opened.github.url}${runners}/generate-jitconfig`, {
      method: "POST",
      headers,
      signal: AbortSignal.timeout(100),
    });
    await expect(silent).rejects.toThrow(/timeout/);
  });

  it("runs as a program of its own and is steered over HTTP", async () => {
    const main = join(import.meta.dirname, "..", "src", "github", "main.ts");
    const program = spawn(process.execPath, [main], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(createInterface({ input: program.stdout }), "line")) as [string];
    const { url } = JSON.parse(line) as { url: string };
    const github = connectGithub(url);
    const job = await queueJob(url, { scenario: "ok", labels: ["x"] });
    expect(await github.job(job.id)).toEqual(job);
    expect(await github.jobs()).toHaveLength(1);
    await github.cancelJob(job.id);
    expect(await github.job(job.id)).toMatchObject({ conclusion: "cancelled" });
    expect(await github.job(1)).toBeUndefined();
    expect(await github.runners()).toEqual([]);
    await github.addFault({ path: "^/app$", status: 503 });
    expect((await fetch(`${url}/app`)).status).toBe(503);
    expect(await github.requests()).toMatchObject([{ path: "/app", status: 503 }]);
    program.kill("SIGTERM");
    expect((await once(program, "exit"))[0]).toBe(0);
  });
});

function bound(lab: Lab) {
  return { rest: lab.rest.bind(lab) };
}
