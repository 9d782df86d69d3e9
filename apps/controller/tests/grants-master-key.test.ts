import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { createAppKey, startGithub } from "@mig/sandbox";
import { sql } from "kysely";
import { expect, it } from "vitest";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { Pool } from "../src/github/grant-source.ts";
import { aboutOf } from "../src/runner/grant-line.ts";
import { openGrants } from "../src/runner/open-grants.ts";
import { openSecrets, type Secrets } from "../src/secrets/open-secrets.ts";
import { countKeys } from "../src/secrets/rewrap.ts";
import { SecretValue } from "../src/secrets/secret-value.ts";
import { describeOnOneEngine } from "./engines.ts";
import { makeDirectory } from "./secrets-lab.ts";

/** Issue 4: the master key of `db://` changes while grants are made; the App's own key rests under it, too. */
const newKey = (): string => randomBytes(32).toString("base64");
const grantsTable = {
  name: "grants",
  row: ["id", "vm_id", "incarnation"],
  about: ([id = "", vmId = "", incarnation = ""]: readonly string[]) => aboutOf({ id, vmId, incarnation }),
};

describeOnOneEngine("grants while the master key changes", (engine) => {
  it("no grant fails, none is lost, and the old key opens nothing any more", async () => {
    const database = await engine.create();
    const store = await database.open();
    const pair = createAppKey();
    // Tokens are renewed before each use, so that each grant reads the App's key again.
    const github = await startGithub({
      publicKeyPem: pair.publicKeyPem,
      appId: 1234,
      installationTokenMs: 280_000,
    });
    const file = join(await makeDirectory(), "master-keys");
    const write = (...keys: string[]): Promise<void> =>
      writeFile(file, `${keys.join("\n")}\n`, { mode: 0o600 });
    const [old, next] = [newKey(), newKey()];
    await write(old);
    const end = new AbortController();
    const alarms: string[] = [];
    const pool: Pool = {
      id: "p",
      orgId: "acme",
      runnerUrl: `${github.webUrl}/acme`,
      runnerGroup: "default",
      labels: ["self-hosted"],
      registration: "jit",
    };
    const replica = async () => {
      const secrets = await openSecrets({
        log: silentLog,
        onAlarm: ({ code }) => alarms.push(code),
        rules: { refreshGapMs: 0 },
        db: { store, masterKey: `file://${file}`, tables: [grantsTable] },
      });
      const keyOf = async () => {
        const { current } = await secrets.refresh("db://app");
        return [readAppKey(current.value.reveal())];
      };
      const grants = openGrants({
        store,
        apps: [
          {
            id: "default",
            apiUrl: github.url,
            appId: "1234",
            keys: keyOf,
            perMinuteStart: 60_000,
            perMinuteMax: 60_000,
          },
        ],
        appOf: () => "default",
        poolOf: () => pool,
        sealer: secrets.sealer,
        wakeVm: () => {},
        onAlarm: ({ code }) => alarms.push(code),
        log: silentLog,
        signal: end.signal,
      });
      return { secrets, grants };
    };
    const replicas = [await replica()];
    const put = (secrets: Secrets | undefined) =>
      store.transact(async (tx) => secrets?.db?.put(tx, "app", new SecretValue(pair.privateKeyPem)));
    await put(replicas[0]?.secrets);
    replicas.push(await replica());
    const [one, two] = replicas;
    if (one === undefined || two === undefined) throw new Error("two replicas");
    const oldId = one.secrets.sealer.keyId();
    const reload = (which: readonly { secrets: Secrets }[]) =>
      Promise.all(which.map(({ secrets }) => secrets.refresh(`file://${file}`)));

    let isOver = false;
    const made: (string | undefined)[] = [];
    const take = async (
      { grants }: typeof one,
      vmId: string,
      requestId = "r1",
    ): Promise<string | undefined> =>
      (
        await grants.source.take(
          { vmId, incarnation: "b1", requestId, orgId: "acme", poolId: "p", pool },
          20_000,
        )
      ).jitConfig;
    // Each VM asks one replica, and then the other for the same: what one has sealed the other opens.
    const load = [one, two].map(async (mine, r) => {
      for (let n = 0; !isOver; n += 1) {
        const vmId = `vm-${r}-${n}`;
        const first = await take(mine, vmId);
        expect(await take(mine === one ? two : one, vmId)).toBe(first);
        made.push(first);
      }
    });
    try {
      const some = (count: number) => {
        const before = made.length;
        return waitFor(`${count} grants`, () => made.length >= before + count, { timeoutMs: 40_000 });
      };
      await some(6);
      await write(old, next);
      await reload([one, two]);
      await some(6);
      await write(next, old);
      await reload([one]);
      expect(one.secrets.sealer.keyId()).not.toBe(oldId);
      await some(6);
      await reload([two]);
      await waitFor("nothing under the old key", async () => {
        await two.secrets.rewrap();
        return !(await countKeys(store, [{ ...grantsTable, name: "secrets" }, grantsTable])).has(oldId);
      });
      await write(next);
      await reload([one, two]);
      expect(one.secrets.sealer.keyIds()).toHaveLength(1);
      await some(6);
      isOver = true;
      await Promise.all(load);
      expect(made.every((jitConfig) => jitConfig !== undefined)).toBe(true);
      expect(alarms).toEqual([]);
      const { rows } = await store.transact((tx) =>
        sql<{ state: string }>`select distinct state from grants`.execute(tx),
      );
      expect(rows).toEqual([{ state: "made" }]);
    } finally {
      isOver = true;
      end.abort();
      await Promise.allSettled(load);
      for (const { grants, secrets } of replicas) {
        await grants[Symbol.asyncDispose]();
        await secrets.close();
      }
      await store[Symbol.asyncDispose]();
      await database.drop();
      await github.close();
    }
  });
});
