import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { type Fault, freePort } from "@mig/sandbox";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type House, openHouse } from "../lib/house.ts";
import { type Spawned, spawnProgram } from "../lib/spawn.ts";

/** Grants of real controller processes on one PostgreSQL: racers, and `kill -9` at each step of making one (R01, T1). */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";
const available = await run(serverUrl, "select 1").then(
  () => true,
  () => false,
);
if (!available && process.env["MIG_TEST_REQUIRE_SERVERS"] === "1")
  throw new Error("no PostgreSQL server answers: set MIG_TEST_DATABASE_URL");

let house: House;
let name: string;
let databaseUrl: string;

async function run(url: string, statement: string, values: unknown[] = []): Promise<Unknown[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    return (await client.query<Unknown>(statement, values)).rows;
  } finally {
    await client.end();
  }
}

async function ask(
  url: string,
  vmId: string,
  path: string,
  body: object,
): Promise<Unknown & { http: number }> {
  const answer = await fetch(`${url}/api/v1/vms/${vmId}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { ...asObject(await answer.json()), http: answer.status };
}

const start = (url: string, vmId: string) =>
  ask(url, vmId, "events", {
    type: "vm_started",
    pool_id: "p",
    org_id: "acme",
    incarnation: "b1",
    seq: 1,
    event_id: `${vmId}-1`,
  });
const wish = (url: string, vmId: string) => ask(url, vmId, "registration-token", {});
/** Until there is a grant, as an agent does: what is not ready is asked for again, and a dead controller too. */
const granted = (url: string, vmId: string): Promise<Unknown> =>
  waitFor(
    `a grant for ${vmId}`,
    async () => {
      const answer = await wish(url, vmId);
      if (answer.http !== 200) expect([409, 429, 503], JSON.stringify(answer)).toContain(answer.http);
      return answer.http === 200 ? answer : undefined;
    },
    { timeoutMs: 20_000 },
  );
const grantCalls = async () =>
  (await house.github.requests()).filter((request) => request.path.endsWith("/generate-jitconfig"));

async function startSecond(): Promise<{ url: string; controller: Spawned }> {
  const [port, grpcPort] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  const controller = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", `127.0.0.1:${grpcPort}`, "--log-format", "json"],
    ...["--data-dir", join(house.dir, "data"), "--database-url", databaseUrl],
    ...["--dev", "--config", join(house.dir, "controller.yaml")],
  ]);
  await waitFor(
    "the second controller to answer",
    () => {
      if (controller.exitCode() !== undefined) throw new Error(JSON.stringify(controller.lines.at(-1)));
      return fetch(`${url}/livez`).then((answer) => answer.ok);
    },
    { timeoutMs: 40_000 },
  );
  return { url, controller };
}

describe.skipIf(!available)("grants of controller processes on PostgreSQL", () => {
  beforeEach(async () => {
    name = `mig_test_${randomBytes(6).toString("hex")}`;
    await run(serverUrl, `create database ${name}`);
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    databaseUrl = url.href;
    house = await openHouse({ databaseUrl });
  });
  afterEach(async () => {
    await house[Symbol.asyncDispose]();
    await run(serverUrl, `drop database ${name} with (force)`);
  });

  it("32 racers through two processes make one call, and all of them get the same grant", async () => {
    const second = await startSecond();
    expect((await start(house.url, "vm-1")).http).toBe(200);
    const answers = await Promise.all(
      Array.from({ length: 32 }, (_, i) => granted(i % 2 === 0 ? house.url : second.url, "vm-1")),
    );
    expect(new Set(answers.map((answer) => readText(answer, "jit_config"))).size).toBe(1);
    expect(readText(answers[0] ?? {}, "jit_config")).toMatch(/^[A-Za-z0-9+/=]{16,}$/);
    expect(await grantCalls()).toHaveLength(1);
    expect(await house.github.runners()).toHaveLength(1);
  });

  const steps: [name: string, fault: Fault, reached: () => Promise<boolean>][] = [
    [
      "before the call",
      { path: "/access_tokens$", hang: true },
      async () => (await house.github.traffic()).underWay > 0,
    ],
    [
      "after GitHub has made the runner, before its answer is read",
      { path: "jitconfig", deliver: "stall" },
      async () => (await house.github.runners()).length > 0,
    ],
  ];
  it.each(steps)("killed %s: the VM gets its runner, and GitHub keeps one", async (_name, fault, reached) => {
    await house.github.addFault(fault);
    await start(house.url, "vm-1");
    const lost = wish(house.url, "vm-1").catch(() => undefined);
    await waitFor("the step", reached);
    await killAndGoOn();
    await lost;
    await expectOne();
  });

  it("killed after the answer, before the commit: the VM gets its runner, and GitHub keeps one", async () => {
    const holder = new pg.Client({ connectionString: databaseUrl });
    await holder.connect();
    try {
      await house.github.addFault({ path: "jitconfig", delayMs: 1_000 });
      await start(house.url, "vm-1");
      const lost = wish(house.url, "vm-1").catch(() => undefined);
      await waitFor(
        "the claim",
        async () => (await run(databaseUrl, "select 1 from grants where state = 'making'")).length > 0,
      );
      await holder.query("begin");
      await holder.query("select 1 from grants for update");
      await waitFor(
        "the answer, held up at the row",
        async () =>
          (
            await run(
              databaseUrl,
              "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = $1 and query like 'update grants set state%'",
              [name],
            )
          ).length > 0,
      );
      house.controller.kill("SIGKILL");
      await house.controller.ended();
      // The server would go on with what it has: a machine that dies takes its connection with it.
      await run(
        databaseUrl,
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and datname = $1",
        [name],
      );
      await holder.query("rollback");
      await lost;
      expect(await house.github.runners()).toHaveLength(1);
      await killAndGoOn();
      await expectOne();
    } finally {
      await holder.end();
    }
  });

  async function killAndGoOn(): Promise<void> {
    if (house.controller.exitCode() === undefined) house.controller.kill("SIGKILL");
    await house.controller.ended();
    await house.github.clearFaults();
    // As if the minute of the claim had passed.
    const claims = await run(
      databaseUrl,
      "update grants set claimed_until = now() where state = 'making' returning 1",
    );
    expect(claims).toHaveLength(1);
    await house.restartController();
  }

  async function expectOne(): Promise<void> {
    const grant = await granted(house.url, "vm-1");
    const [row, ...others] = await run(databaseUrl, "select state, tries, runner_name from grants");
    expect(others).toEqual([]);
    expect(row).toMatchObject({ state: "made", tries: 2 });
    expect((await house.github.runners()).map((runner) => runner.name)).toEqual([row?.["runner_name"]]);
    expect(readText(await granted(house.url, "vm-1"), "jit_config")).toBe(readText(grant, "jit_config"));
  }
});
