import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createLog, silentLog, waitFor } from "@mig/kit";
import { startVault } from "@mig/sandbox";
import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, expect, it, onTestFinished } from "vitest";
import type { SecretAlarm } from "../src/secrets/alarm.ts";
import { sealedSecrets } from "../src/secrets/db-secrets.ts";
import { aboutRow } from "../src/secrets/envelope.ts";
import { openSecrets, type Secrets } from "../src/secrets/open-secrets.ts";
import { countKeys, rewrapAll, type SealedTable } from "../src/secrets/rewrap.ts";
import { createSealer } from "../src/secrets/sealer.ts";
import { SecretValue } from "../src/secrets/secret-value.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnOneEngine, type Engine } from "./engines.ts";
import { errorOf, makeDirectory } from "./secrets-lab.ts";

const newKey = (): string => randomBytes(32).toString("hex");

/** Another table with envelopes, as the grants are. */
const notes: SealedTable = {
  name: "test_notes",
  row: ["id", "owner"],
  about: ([id = "", owner = ""]) => aboutRow("test_notes", id, owner),
};

interface Lab {
  store: Store;
  masterFile: string;
  writeKeys(...keys: string[]): Promise<void>;
  /** Another replica on the same database. */
  open(masterFile?: string): Promise<{ secrets: Secrets; alarms: SecretAlarm[]; lines: string[] }>;
  put(secrets: Secrets, name: string, text: string): Promise<number>;
}

describeOnOneEngine("secrets in the database", (engine) => {
  const after: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    while (after.length > 0) await after.pop()?.();
  });

  let database: Awaited<ReturnType<Engine["create"]>>;
  let store: Store;
  beforeAll(async () => {
    database = await engine.create();
    store = await database.open();
    await store.transact((tx) =>
      sql`create table test_notes (id bigint, owner text, sealed text)`.execute(tx),
    );
  });
  afterAll(async () => {
    await store[Symbol.asyncDispose]();
    await database.drop();
  });

  async function openDb(): Promise<Lab> {
    await store.transact((tx) => sql`truncate secrets, test_notes`.execute(tx));
    const directory = await makeDirectory();
    const masterFile = join(directory, "master-keys");
    return {
      store,
      masterFile,
      writeKeys: (...keys) => writeFile(masterFile, `${keys.join("\n")}\n`, { mode: 0o600 }),
      async open(file = masterFile) {
        const alarms: SecretAlarm[] = [];
        const lines: string[] = [];
        const secrets = await openSecrets({
          log: createLog({ level: "debug", write: (line) => void lines.push(line) }),
          onAlarm: (alarm) => alarms.push(alarm),
          random: () => 0.1,
          rules: { refreshGapMs: 0 },
          db: { store, masterKey: `file://${file}`, tables: [notes] },
        });
        after.push(() => secrets.close());
        return { secrets, alarms, lines };
      },
      put: (secrets, name, text) =>
        store.transact(async (tx) => (await secrets.db?.put(tx, name, new SecretValue(text))) ?? 0),
    };
  }

  it("are versions of a name, the newest five of each", async () => {
    const lab = await openDb();
    await lab.writeKeys(newKey());
    const { secrets } = await lab.open();
    for (let version = 1; version <= 7; version += 1)
      expect(await lab.put(secrets, "app/1", `value-${version}`)).toBe(version);
    await lab.put(secrets, "other", "value-of-other");
    const pair = await secrets.get("db://app/1", { previous: true });
    expect([pair.current.version, pair.current.value.reveal()]).toEqual(["7", "value-7"]);
    expect(pair.previous?.value.reveal()).toBe("value-6");
    expect((await secrets.get("db://app/1?version=3")).current.value.reveal()).toBe("value-3");
    expect((await errorOf(secrets.get("db://app/1?version=2"))).message).toMatch(
      /not in the database in this version/,
    );
    expect((await errorOf(secrets.get("db://none"))).code).toBe("secret_invalid");
    const listed = await lab.store.transact((tx) => secrets.db?.list(tx) ?? Promise.resolve([]));
    expect(listed).toEqual([
      { name: "app/1", version: 7, createdAtMs: expect.any(Number) },
      { name: "other", version: 1, createdAtMs: expect.any(Number) },
    ]);
    expect(await lab.store.transact((tx) => secrets.db?.remove(tx, "app/1") ?? Promise.resolve(0))).toBe(5);
    expect((await errorOf(secrets.refresh("db://app/1"))).code).toBe("secret_invalid");
  });

  it("get numbers in order, also when many put at once, and none when the transaction fails", async () => {
    const lab = await openDb();
    await lab.writeKeys(newKey());
    const [one, two] = [await lab.open(), await lab.open()];
    const numbers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        lab.put(index % 2 === 0 ? one.secrets : two.secrets, "raced", `value-${index}`),
      ),
    );
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    await lab.store
      .transact(async (tx) => {
        await one.secrets.db?.put(tx, "raced", new SecretValue("never"));
        throw new Error("the audit log could not be written");
      })
      .catch(() => {});
    expect((await one.secrets.refresh("db://raced")).current.version).toBe("20");
  });

  it("rest encrypted: no row holds the value in any shape", async () => {
    const lab = await openDb();
    await lab.writeKeys(newKey());
    const { secrets } = await lab.open();
    await lab.put(secrets, "app/1", "canary-in-the-database");
    const { rows } = await lab.store.transact((tx) => sql`select * from secrets`.execute(tx));
    const dump = JSON.stringify(rows);
    expect(dump).toContain("mig1.");
    expect(dump).not.toMatch(/canary|Y2FuYXJ5|63616e617279/);
  });

  it("do not open when somebody exchanges rows, versions or a letter", async () => {
    const lab = await openDb();
    await lab.writeKeys(newKey());
    const { secrets } = await lab.open();
    await lab.put(secrets, "app/1", "of-app-one");
    await lab.put(secrets, "app/2", "of-app-two");
    await lab.put(secrets, "app/2", "of-app-two-again");
    const run = (text: string) => lab.store.transact((tx) => sql.raw(text).execute(tx));
    await run(
      "update secrets set sealed = (select sealed from secrets where name = 'app/1') where name = 'app/2' and version = 2",
    );
    expect(await errorOf(secrets.get("db://app/2"))).toMatchObject({
      code: "secret_invalid",
      message: expect.stringMatching(/^db:\/\/app\/2: .*does not open/),
    });
    await run(
      "update secrets set sealed = (select sealed from secrets where name = 'app/2' and version = 1) where name = 'app/2' and version = 2",
    );
    expect((await errorOf(secrets.refresh("db://app/2"))).code).toBe("secret_invalid");
    await run(
      "update secrets set sealed = overlay(sealed placing (case when substr(sealed, 60, 1) = 'A' then 'B' else 'A' end) from 60) where name = 'app/1'",
    );
    expect((await errorOf(secrets.refresh("db://app/1"))).code).toBe("secret_invalid");
  });

  it("refuse what no reference could name, and values of no use", async () => {
    const lab = await openDb();
    await lab.writeKeys(newKey());
    const { secrets } = await lab.open();
    for (const name of ["", "App", "a//b", "../x", "a/b/c/d/e", "a".repeat(65)])
      expect((await errorOf(lab.put(secrets, name, "value"))).code, name).toBe("invalid_request");
    expect((await errorOf(lab.put(secrets, "empty", ""))).code).toBe("invalid_request");
    expect((await errorOf(lab.put(secrets, "long", "x".repeat(65_537)))).code).toBe("invalid_request");
  });

  it("survive a change of the master key under load: no reading fails, all are re-wrapped, the old key goes", async () => {
    const lab = await openDb();
    const [old, next] = [newKey(), newKey()];
    await lab.writeKeys(old);
    const one = await lab.open();
    const two = await lab.open();
    const names = Array.from({ length: 150 }, (_, index) => `app/${index}`);
    for (const name of names) await lab.put(one.secrets, name, `value of ${name}`);
    await lab.store.transact(async (tx) => {
      for (let id = 0; id < 20; id += 1)
        await sql`insert into test_notes values (${id}, 'me', ${one.secrets.sealer.seal(`note ${id}`, notes.about([String(id), "me"]))})`.execute(
          tx,
        );
    });

    let isOver = false;
    let reads = 0;
    let writes = 0;
    const reader = async (secrets: Secrets): Promise<void> => {
      for (let at = 0; !isOver; at += 1) {
        const name = names[at % names.length] ?? "";
        const { current } = await secrets.refresh(`db://${name}`);
        expect(current.value.reveal()).toMatch(new RegExp(`^(?:new )?value of ${name}$`));
        reads += 1;
      }
    };
    const writer = async (secrets: Secrets): Promise<void> => {
      for (let at = 0; !isOver; at += 7) {
        const name = names[at % names.length] ?? "";
        await lab.put(secrets, name, `new value of ${name}`);
        writes += 1;
      }
    };
    const work = Promise.all([
      reader(one.secrets),
      reader(two.secrets),
      writer(one.secrets),
      writer(two.secrets),
    ]);
    const master = `file://${lab.masterFile}`;
    const oldId = one.secrets.sealer.keyId();
    // 1: the new key opens everywhere. 2: it seals, on one replica before the other. 3: the old one goes.
    await lab.writeKeys(old, next);
    await Promise.all([one.secrets.refresh(master), two.secrets.refresh(master)]);
    expect(one.secrets.sealer.keyId()).toBe(oldId);
    await lab.writeKeys(next, old);
    await one.secrets.refresh(master);
    expect(one.secrets.sealer.keyId()).not.toBe(oldId);
    await waitFor("some work with two keys", () => reads > 300 && writes > 20);
    await two.secrets.refresh(master);
    await waitFor("nothing under the old key", async () => {
      await two.secrets.rewrap();
      return !(await countKeys(lab.store, [{ ...notes, name: "secrets" }, notes])).has(oldId);
    });
    await lab.writeKeys(next);
    await Promise.all([one.secrets.refresh(master), two.secrets.refresh(master)]);
    expect(one.secrets.sealer.keyIds()).toHaveLength(1);
    const before = reads;
    await waitFor("some work with the new key alone", () => reads > before + 100);
    isOver = true;
    await work;
    expect([...one.alarms, ...two.alarms]).toEqual([]);
    const { rows } = await lab.store.transact((tx) =>
      sql<{ id: string; sealed: string }>`select id::text as id, sealed from test_notes`.execute(tx),
    );
    for (const { id, sealed } of rows)
      expect(two.secrets.sealer.open(sealed, notes.about([id, "me"]))).toBe(`note ${id}`);
    expect(rows).toHaveLength(20);
  });

  it("keep a master key that is taken away too early, and say what it still holds", async () => {
    const lab = await openDb();
    const [old, next] = [newKey(), newKey()];
    await lab.writeKeys(old);
    const { secrets, alarms } = await lab.open();
    await lab.put(secrets, "app/1", "value-one");
    const oldId = secrets.sealer.keyId();
    await lab.writeKeys(next);
    const error = await errorOf(secrets.refresh(`file://${lab.masterFile}`));
    expect(error).toMatchObject({
      code: "secret_invalid",
      message: expect.stringMatching(
        new RegExp(`lacks master keys .* ${oldId} \\(1\\); put them back below the first`),
      ),
    });
    expect(alarms).toMatchObject([{ code: "secret_refused" }]);
    expect((await secrets.refresh("db://app/1")).current.value.reveal()).toBe("value-one");
    await lab.writeKeys(next, old);
    await secrets.refresh(`file://${lab.masterFile}`);
    await waitFor(
      "the re-wrap",
      async () => !(await countKeys(lab.store, [{ ...notes, name: "secrets" }])).has(oldId),
    );
    await lab.writeKeys(next);
    await secrets.refresh(`file://${lab.masterFile}`);
    expect((await secrets.refresh("db://app/1")).current.value.reveal()).toBe("value-one");
  });

  it("of a replica that knows a newer master key are read by the others, who look at the file again", async () => {
    const lab = await openDb();
    const [old, next] = [newKey(), newKey()];
    await lab.writeKeys(old);
    const slow = await lab.open();
    await lab.writeKeys(next, old);
    const quick = await lab.open();
    await lab.put(quick.secrets, "app/1", "by-the-quick-one");
    expect((await slow.secrets.get("db://app/1")).current.value.reveal()).toBe("by-the-quick-one");
    expect(slow.secrets.sealer.keyId()).toBe(quick.secrets.sealer.keyId());
  });

  it("under a lost master key are told at the start, and the others go on", async () => {
    const lab = await openDb();
    await lab.writeKeys(newKey());
    const first = await lab.open();
    await lab.put(first.secrets, "lost", "value-lost");
    await lab.writeKeys(newKey());
    const second = await lab.open();
    expect(second.lines.join("")).toMatch(/lacks master keys that secrets are still sealed with/);
    await lab.put(second.secrets, "found", "value-found");
    expect((await second.secrets.get("db://found")).current.value.reveal()).toBe("value-found");
    expect(await errorOf(second.secrets.get("db://lost"))).toMatchObject({
      code: "secret_unavailable",
      message: expect.stringMatching(/which is not among ours/),
    });
    const report = await second.secrets.rewrap();
    expect(report.broken).toEqual(["secrets: lost 1"]);
    expect([...report.left.values()]).toEqual([1]);
    // What is lost does not keep the others from another change of keys.
    const third = newKey();
    await writeFile(lab.masterFile, `${third}\n${await readFile(lab.masterFile, "utf8")}`);
    await second.secrets.refresh(`file://${lab.masterFile}`);
    expect(second.secrets.sealer.keyIds()).toHaveLength(2);
    expect((await second.secrets.refresh("db://found")).current.value.reveal()).toBe("value-found");
  });

  it("are re-wrapped on from where a stop left them", async () => {
    const lab = await openDb();
    const [old, next] = [newKey(), newKey()];
    await lab.writeKeys(old);
    const { secrets } = await lab.open();
    for (let index = 0; index < 250; index += 1) await lab.put(secrets, `app/${index}`, `value ${index}`);
    const stop = new AbortController();
    const oldId = secrets.sealer.keyId();
    await secrets.close();
    // By hand, so that it can be stopped after the first batch.
    const sealer = createSealer();
    sealer.adopt(new SecretValue(`${next}\n${old}`), "it");
    let batches = 0;
    const counting: Store = {
      ...lab.store,
      kind: lab.store.kind,
      wakes: lab.store.wakes,
      isReachable: () => lab.store.isReachable(),
      transact: (work) => {
        batches += 1;
        if (batches === 2) stop.abort();
        return lab.store.transact(work);
      },
      [Symbol.asyncDispose]: async () => {},
    };
    const first = await rewrapAll(counting, sealer, [sealedSecrets], silentLog, stop.signal);
    expect([first.rewrapped, first.left.get(oldId)]).toEqual([100, 150]);
    const second = await rewrapAll(
      lab.store,
      sealer,
      [sealedSecrets],
      silentLog,
      new AbortController().signal,
    );
    expect([second.rewrapped, second.left.size, second.broken]).toEqual([150, 0, []]);
    sealer.dispose();
  });

  it("begin only with master keys that hold, and never with themselves for a master key", async () => {
    const lab = await openDb();
    expect((await errorOf(lab.open())).code).toBe("secret_invalid");
    await lab.writeKeys("rubbish");
    expect((await errorOf(lab.open())).message).toMatch(/line 1: a master key is 32 bytes/);
    const own = openSecrets({ log: silentLog, db: { store: lab.store, masterKey: "db://master" } });
    expect((await errorOf(own)).message).toMatch(/cannot be in the database that it protects/);
  });

  it("wait for master keys whose store is away at the start", async () => {
    const lab = await openDb();
    const vault = await startVault();
    onTestFinished(() => vault.close());
    vault.put("master", { keys: newKey() });
    vault.seal();
    const secrets = await openSecrets({
      log: silentLog,
      random: () => 0.1,
      rules: { refreshGapMs: 0 },
      vault: { address: vault.url, login: { method: "token", token: "env://TOKEN" } },
      env: { isAllowed: true, values: { TOKEN: vault.giveToken() } },
      db: { store: lab.store, masterKey: "vault://secret/master#keys", tables: [notes] },
    });
    after.push(() => secrets.close());
    expect((await errorOf(lab.put(secrets, "app/1", "value"))).code).toBe("secret_unavailable");
    vault.unseal();
    await waitFor("the master keys", () => secrets.sealer.isReady());
    await lab.put(secrets, "app/1", "value-in-the-end");
    expect((await secrets.get("db://app/1")).current.value.reveal()).toBe("value-in-the-end");
  });
});
