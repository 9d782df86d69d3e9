import { randomBytes } from "node:crypto";
import { silentLog, waitFor } from "@mig/kit";
import { createAppKey, type Github, startGithub } from "@mig/sandbox";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type AppKey, readAppKey } from "../src/github/app-jwt.ts";
import type { Pool } from "../src/github/grant-source.ts";
import { type OpenGrants, openGrants } from "../src/runner/open-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnOneEngine } from "./engines.ts";

/** The App's key is changed, and clocks differ, while grants are made. Each stand-in takes one key: its own. */
const oldPair = createAppKey();
const newPair = createAppKey();
const oldKey = readAppKey(oldPair.privateKeyPem);
const newKey = readAppKey(newPair.privateKeyPem);
const holdMs = 20_000;
const tokenMs = 3_600_000;

describeOnOneEngine("grants while keys and clocks change", (engine) => {
  // Nothing of this depends on the engine, and PGlite takes five seconds to begin each test.
  const test = it.skipIf(engine.name === "PGlite");
  let github: Github;
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  let open: OpenGrants;
  let ends: AbortController;
  let keys: readonly AppKey[];
  let alarms: string[];

  beforeEach(async () => {
    database = await engine.create();
    store = await database.open();
    ends = new AbortController();
    alarms = [];
  });
  afterEach(async () => {
    ends.abort();
    await open[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
    await github.close();
  });

  /** Tokens that live for five minutes are renewed before each use, so each grant needs a JWT. */
  async function begin(publicKeyPem: string, installationTokenMs = 280_000, port = 0): Promise<void> {
    github = await startGithub({ publicKeyPem, appId: 1234, installationTokenMs, port });
    open = openGrants({
      store,
      apps: [
        {
          id: "default",
          apiUrl: github.url,
          appId: "1234",
          keys: async () => keys,
          perMinuteStart: 60_000,
          perMinuteMax: 60_000,
        },
      ],
      appOf: () => "default",
      poolOf: () => pool(),
      sealer: createSealer(randomBytes(32)),
      wakeVm: () => {},
      onAlarm: ({ code }) => alarms.push(code),
      log: silentLog,
      signal: ends.signal,
    });
  }
  const pool = (): Pool => ({
    id: "p",
    orgId: "acme",
    runnerUrl: `${github.webUrl}/acme`,
    runnerGroup: "default",
    labels: ["self-hosted"],
    registration: "jit",
  });
  const take = (vmId: string) =>
    open.source.take(
      { vmId, incarnation: "b1", requestId: "r1", orgId: "acme", poolId: "p", pool: pool() },
      holdMs,
    );
  const many = (name: string, count: number) =>
    Promise.all(Array.from({ length: count }, (_, i) => take(`${name}-${i}`)));
  const refused = async () => (await github.requests()).filter(({ status }) => status === 401);

  test("rotation in the right order, under load: the new one beside the old, then the old one leaves", async () => {
    keys = [oldKey];
    await begin(oldPair.publicKeyPem);
    const before = many("before", 20);
    await waitFor("the load to run", async () => (await github.requests()).length > 4);
    // The new one is first in line and not known at GitHub yet: the old one serves.
    keys = [newKey, oldKey];
    const during = many("during", 20);
    const { port } = github;
    expect((await Promise.all([before, during])).flat().every(({ jitConfig }) => jitConfig)).toBe(true);
    // GitHub takes the new one, and the old one is revoked: the stand-in begins anew on the same port.
    await github.close();
    github = await startGithub({ publicKeyPem: newPair.publicKeyPem, appId: 1234, port });
    expect((await many("after", 20)).every(({ jitConfig }) => jitConfig)).toBe(true);
    keys = [newKey];
    expect((await many("end", 20)).every(({ jitConfig }) => jitConfig)).toBe(true);
    // A token that GitHub has forgotten, and the old key: once each, whatever the load.
    const jwts = (await refused()).filter(({ path }) => path.endsWith("/access_tokens"));
    expect(jwts.length).toBeLessThanOrEqual(1);
  });

  test("rotation in the wrong order, the old one revoked first: one more call, and no grant fails", async () => {
    keys = [oldKey, newKey];
    await begin(newPair.publicKeyPem, tokenMs);
    const grants = await many("vm", 40);
    expect(grants.every(({ jitConfig }) => jitConfig)).toBe(true);
    expect(await refused()).toHaveLength(1);
    expect(alarms).toEqual(["github_key_refused"]);
  });

  // A busy machine asked again only after GitHub's clock had been set right, and took the second 401 for the key's fault.
  test("a clock that is set right while it is asked is no reason to blame the key", async () => {
    keys = [newKey];
    await begin(newPair.publicKeyPem, tokenMs);
    await github.addFault({ path: "access_tokens", clockSkewMs: -600_000 });
    await github.addFault({ path: "access_tokens", clockSkewMs: 0 });
    expect((await take("vm")).jitConfig).toBeDefined();
    expect(await refused()).toHaveLength(2);
    expect(alarms).toEqual([]);
  });

  const skews: [name: string, skewMs: number][] = [
    ["ten minutes ahead", 600_000],
    ["ten minutes behind", -600_000],
    ["three days ahead", 3 * 86_400_000],
    ["three days behind", -3 * 86_400_000],
  ];
  test.each(skews)(
    "GitHub's clock is %s: one call is asked again, and tokens are kept",
    async (_name, skewMs) => {
      keys = [newKey];
      await begin(newPair.publicKeyPem, tokenMs);
      await github.setClock(skewMs);
      const grants = await many("vm", 10);
      expect(grants.every(({ jitConfig }) => jitConfig)).toBe(true);
      const asked = await github.requests();
      expect(asked.filter(({ status }) => status === 401).length).toBeLessThanOrEqual(1);
      expect(
        asked.filter(({ path, status }) => path.endsWith("/access_tokens") && status < 300),
      ).toHaveLength(1);
      expect(alarms).toEqual([]);
    },
  );
});
