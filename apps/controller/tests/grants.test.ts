import { randomBytes } from "node:crypto";
import { silentLog, waitFor } from "@mig/kit";
import { createAppKey, type Fault, type Github, startGithub } from "@mig/sandbox";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { GrantAsk, Pool } from "../src/github/grant-source.ts";
import { type AppSpec, type OpenGrants, openGrants } from "../src/runner/open-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnOneEngine } from "./engines.ts";

/** Grants from a GitHub App: the line, the pace and the calls, against the stand-in, which checks as GitHub does. */
const key = createAppKey();
const sealer = createSealer(randomBytes(32));

describeOnOneEngine("grants", (engine) => {
  let github: Github;
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  let pool: Pool;
  let ends: AbortController[];
  let alarms: string[];

  beforeEach(async () => {
    github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
    database = await engine.create();
    store = await database.open();
    ends = [];
    alarms = [];
    pool = {
      id: "p",
      orgId: "acme",
      runnerUrl: `${github.webUrl}/acme`,
      runnerGroup: "default",
      labels: ["self-hosted", "linux"],
      registration: "jit",
    };
  });
  afterEach(async () => {
    for (const end of ends) end.abort();
    await store[Symbol.asyncDispose]();
    await database.drop();
    await github.close();
  });

  function open(app: Partial<AppSpec> = {}): OpenGrants {
    const end = new AbortController();
    ends.push(end);
    return openGrants({
      store,
      apps: [
        {
          id: "default",
          apiUrl: github.url,
          appId: "1234",
          keys: async () => [readAppKey(key.privateKeyPem)],
          perMinuteStart: 60_000,
          perMinuteMax: 60_000,
          ...app,
        },
      ],
      appOf: () => "default",
      poolOf: () => pool,
      sealer,
      wakeVm: () => {},
      onAlarm: ({ code }) => alarms.push(code),
      log: silentLog,
      signal: end.signal,
    });
  }
  const ask = (vmId = "vm-1", more: Partial<GrantAsk> = {}): GrantAsk => ({
    vmId,
    incarnation: "boot-1",
    requestId: "command-1",
    orgId: "acme",
    poolId: "p",
    pool,
    ...more,
  });
  const holdMs = 20_000;
  const calls = async (path: string) =>
    (await github.requests()).filter((request) => request.path.endsWith(path));

  it("a JIT config makes one runner, known by its name before it connects", async () => {
    const grant = await open().source.take(ask(), holdMs);
    expect(grant).toMatchObject({ runnerGroup: "default", labels: ["self-hosted", "linux"] });
    expect(Object.keys(JSON.parse(Buffer.from(grant.jitConfig ?? "", "base64").toString("utf8")))).toContain(
      ".runner",
    );
    expect(await github.runners()).toMatchObject([
      { name: grant.runnerName, status: "offline", ephemeral: true },
    ]);
  });

  it("a registration token comes with its expiry", async () => {
    pool = { ...pool, registration: "token" };
    const grant = await open().source.take(ask(), holdMs);
    expect(grant.registrationToken).toMatch(/^\S{10,}$/);
    expect(grant.expiresAtMs).toBeGreaterThan(Date.now() + 50 * 60_000);
  });

  it("32 racers for one grant, through two replicas, make one call, and all of them get it", async () => {
    const sources = [open().source, open().source];
    const grants = await Promise.all(
      Array.from({ length: 32 }, (_, i) => (sources[i % 2] ?? open().source).take(ask(), holdMs)),
    );
    expect(new Set(grants.map((grant) => grant.jitConfig)).size).toBe(1);
    expect(await calls("/generate-jitconfig")).toHaveLength(1);
  });

  it("a hundred VMs at once buy one installation token and are all served", async () => {
    const { source } = open();
    await Promise.all(Array.from({ length: 100 }, (_, i) => source.take(ask(`vm-${i}`), holdMs)));
    expect(await calls("/access_tokens")).toHaveLength(1);
    expect(await github.runners()).toHaveLength(100);
  });

  it("another request of the same life waits until the first grant is over, and the fourth is refused", async () => {
    const { source } = open();
    await source.take(ask(), holdMs);
    await expect(source.take(ask("vm-1", { requestId: "command-2" }), holdMs)).rejects.toMatchObject({
      code: "conflict",
    });
    for (const requestId of ["command-2", "command-3", "command-4"]) {
      await store.transact((tx) => sql`update grants set state = 'void' where state = 'made'`.execute(tx));
      const next = source.take(ask("vm-1", { requestId }), holdMs);
      if (requestId === "command-4") await expect(next).rejects.toMatchObject({ code: "refused" });
      else expect((await next).jitConfig).toBeDefined();
    }
  });

  it("nothing that rests in the database tells the secret", async () => {
    const grant = await open().source.take(ask(), holdMs);
    const { rows } = await store.transact((tx) => sql<object>`select * from grants`.execute(tx));
    expect(JSON.stringify(rows)).not.toContain(grant.jitConfig);
    expect(JSON.stringify(rows)).toContain(grant.runnerName);
  });

  // Eight seconds that say nothing about databases.
  if (engine.name !== "PGlite")
    it("at a slow pace no turn is lost to the lookups on its way, however many replicas take them", async () => {
      // Two seconds a turn, as after repeated secondary limits: as long as a caller is held at most.
      const slow = { perMinuteStart: 30, perMinuteMax: 30 };
      const sources = [open(slow).source, open(slow).source];
      await Promise.all(
        Array.from({ length: 4 }, (_, i) =>
          (sources[i % 2] ?? open(slow).source).take(ask(`vm-${i}`), holdMs),
        ),
      );
      const { rows } = await store.transact((tx) =>
        sql<{ tries: number }>`select tries from grants`.execute(tx),
      );
      expect(rows.map(({ tries }) => tries)).toEqual([1, 1, 1, 1]);
    });

  it("a claim of a replica that died is taken over, and its runner is removed", async () => {
    const first = open();
    const grant = await first.source.take(ask(), holdMs);
    // As if it had died between GitHub's answer and the table.
    await store.transact((tx) =>
      sql`update grants set state = 'making', sealed = null, claimed_until = now() - interval '1 second'`.execute(
        tx,
      ),
    );
    const again = await first.source.take(ask(), holdMs);
    expect(again.runnerName).not.toBe(grant.runnerName);
    expect((await github.runners()).map((runner) => runner.name)).toEqual([again.runnerName]);
  });

  it("nobody calls before the end of a Retry-After, whichever replica heard it", async () => {
    await github.addFault({ path: "jitconfig", status: 429, headers: { "retry-after": "3" } });
    const [one, other] = [open().source, open().source];
    const early = await one.take(ask("vm-1"), 1_000).catch((error: unknown) => error);
    expect(early).toMatchObject({ code: "github_rate_limited" });
    await Promise.all([one.take(ask("vm-1"), holdMs), other.take(ask("vm-2"), holdMs)]);
    const at = (await calls("/generate-jitconfig")).map((request) => Date.parse(request.at));
    expect((at[1] ?? 0) - (at[0] ?? 0)).toBeGreaterThanOrEqual(2_900);
  });

  it("pools take turns, however long the line of one of them is", async () => {
    const { source } = open({ perMinuteStart: 600, perMinuteMax: 600 });
    const order: string[] = [];
    const take = (poolId: string, i: number) =>
      source
        .take(ask(`${poolId}-${i}`, { poolId, pool: { ...pool, id: poolId } }), holdMs)
        .then(() => order.push(poolId));
    const many = Array.from({ length: 20 }, (_, i) => take("many", i));
    await waitFor("the long line to stand", async () => (await calls("/generate-jitconfig")).length > 0);
    await Promise.all([...many, ...Array.from({ length: 5 }, (_, i) => take("few", i))]);
    expect(order.lastIndexOf("few")).toBeLessThan(16);
  });

  it("a VM may ask for less than its pool has, and for nothing else", async () => {
    const { source } = open();
    expect((await source.take(ask("vm-1", { said: { labels: ["linux"] } }), holdMs)).labels).toEqual([
      "linux",
    ]);
    for (const said of [{ labels: ["gpu"] }, { runnerGroup: "secret" }, { poolId: "q" }, { orgId: "evil" }])
      await expect(source.take(ask("vm-2", { said }), holdMs)).rejects.toMatchObject({ code: "forbidden" });
    await expect(source.take(ask("vm-3", { incarnation: "" }), holdMs)).rejects.toMatchObject({
      code: "conflict",
    });
  });

  const forGood: [name: string, fault: Fault, code: string][] = [
    ["a missing permission", { path: "jitconfig", status: 403, body: { message: "no" } }, "github_forbidden"],
    ["an App that is not installed", { path: "/installation$", status: 404 }, "github_not_installed"],
  ];
  it.each(forGood)("%s is told at once", async (_name, fault, code) => {
    await github.addFault({ ...fault, times: 10 });
    await expect(open().source.take(ask(), holdMs)).rejects.toMatchObject({ name: "MigError", code });
  });

  it("a key that is not the App's is told, and alarms", async () => {
    const other = readAppKey(createAppKey().privateKeyPem);
    await expect(open({ keys: async () => [other] }).source.take(ask(), holdMs)).rejects.toMatchObject({
      code: "github_unauthorized",
    });
    expect(alarms).toEqual(["github_key_refused"]);
  });

  it("of two keys the one that GitHub takes is found, and the other one alarms once", async () => {
    const keys = [readAppKey(createAppKey().privateKeyPem), readAppKey(key.privateKeyPem)];
    const { source } = open({ keys: async () => keys });
    await Promise.all(Array.from({ length: 10 }, (_, i) => source.take(ask(`vm-${i}`), holdMs)));
    expect(alarms).toEqual(["github_key_refused"]);
  });

  const passing: [name: string, fault: Fault][] = [
    ["a name that is taken", { path: "jitconfig", status: 409 }],
    ["a page of HTML", { path: "jitconfig", status: 502, headers: { "retry-after": "1" }, body: "<html>" }],
    ["a token that was revoked", { path: "jitconfig", status: 401 }],
    ["an installation with another number now", { path: "/access_tokens$", status: 404 }],
  ];
  it.each(passing)("%s is overcome", async (_name, fault) => {
    await github.addFault(fault);
    expect((await open().source.take(ask(), holdMs)).jitConfig).toBeDefined();
  });

  it("an idle runner is let go; one that is gone already, too; a busy one stays", async () => {
    const { source } = open();
    const { runnerName = "" } = await source.take(ask(), holdMs);
    const names = { orgId: "acme", poolId: "p", runnerName };
    const body = { message: `Bad request - Runner "${runnerName}" is still running a job"` };
    await github.addFault({ method: "DELETE", path: "/actions/runners/", status: 422, body });
    expect(await source.remove(names)).toBe("busy");
    expect(await source.remove(names)).toBe("removed");
    expect(await source.remove(names)).toBe("removed");
    expect(await github.runners()).toEqual([]);
  });
});
