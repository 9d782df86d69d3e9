import { waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { startVault, type Vault } from "@mig/sandbox";
import { expect, it } from "vitest";
import type { CacheRules } from "../src/secrets/held-secret.ts";
import type { SecretValue } from "../src/secrets/secret-value.ts";
import {
  closing,
  createHandClock,
  errorOf,
  type HandClock,
  openLab,
  type SecretsLab,
} from "./secrets-lab.ts";

const app = "vault://secret/app#key";
const hourMs = 3_600_000;

interface Cache extends SecretsLab {
  vault: Vault;
  clock: HandClock;
  reads(): number;
  /** Lets time pass until the cache has asked once more by itself, and waits for what came of it. */
  pass(ms: number): Promise<void>;
}

async function openCache(rules: Partial<CacheRules> = {}): Promise<Cache> {
  const vault = closing(await startVault());
  vault.put("app", { key: "value-number-one" });
  const clock = createHandClock();
  const lab = await openLab({
    clock,
    rules: { fetchMs: 2_000, refreshMs: hourMs / 2, ...rules },
    vault: { address: vault.url, login: { method: "token", token: "env://TOKEN" }, timeoutMs: 500 },
    env: { isAllowed: true, values: { TOKEN: vault.giveToken() } },
  });
  const outcomes = (): number =>
    lab.lines.filter((line) => /"reference":"vault:/.test(line) && /could not be read|was read/.test(line))
      .length;
  const reads = (): number =>
    vault.requests.filter(({ path }) => path.startsWith("/v1/secret/data/app")).length;
  return {
    ...lab,
    vault,
    clock,
    reads,
    async pass(ms) {
      const before = [outcomes(), reads()];
      clock.advance(ms);
      await waitFor(
        "another reading",
        () =>
          outcomes() > (before[0] ?? 0) ||
          (reads() > (before[1] ?? 0) &&
            (lab.secrets.status().find(({ reference }) => reference === app)?.ageMs ?? 0) < 1_000),
      );
    },
  };
}

const read = async ({ secrets }: SecretsLab): Promise<string> =>
  (await secrets.get(app)).current.value.reveal();

it("asks again by itself, within a tenth of the interval, and takes what is new", async () => {
  for (const dice of [0, 0.5, 0.999]) {
    const vault = closing(await startVault());
    vault.put("app", { key: "value-number-one" });
    const clock = createHandClock();
    const env = { isAllowed: true, values: { TOKEN: vault.giveToken() } };
    const lab = await openLab({
      clock,
      random: () => dice,
      env,
      vault: { address: vault.url, login: { method: "token", token: "env://TOKEN" } },
    });
    await read(lab);
    const reads = (): number => vault.requests.filter(({ path }) => path.includes("/data/app")).length;
    vault.put("app", { key: "value-number-two" });
    clock.advance(300_000 * (0.9 + 0.2 * dice) - 1);
    expect(reads()).toBe(1);
    clock.advance(2);
    await waitFor("the new version", async () => (await read(lab)) === "value-number-two");
  }
});

it("gives what it holds while the store is away, alarms after an hour, and gives nothing after a day", async () => {
  const cache = await openCache();
  await read(cache);
  cache.vault.seal();
  for (let step = 0; step < 2; step += 1) await cache.pass(hourMs / 2 - 60_000);
  expect(cache.alarms).toEqual([]);
  while (cache.alarms.length === 0) await cache.pass(hourMs / 2);
  expect(cache.alarms).toMatchObject([
    {
      code: "secret_stale",
      reference: app,
      message: expect.stringMatching(/is used as it was \d+ min ago.*is sealed/),
    },
  ]);
  const before = cache.reads();
  expect(await read(cache)).toBe("value-number-one");
  expect(cache.reads()).toBe(before);

  for (let step = 0; step < 60 && cache.alarms.length === 1; step += 1) await cache.pass(hourMs);
  expect(cache.alarms.map(({ code }) => code)).toEqual(["secret_stale", "secret_expired"]);
  expect(await errorOf(cache.secrets.get(app))).toMatchObject({
    code: "secret_unavailable",
    message: expect.stringMatching(/is sealed/),
  });

  cache.vault.unseal();
  await cache.pass(hourMs);
  expect(await read(cache)).toBe("value-number-one");
  expect(cache.alarms.map(({ code }) => code)).toEqual([
    "secret_stale",
    "secret_expired",
    "secret_recovered",
  ]);
}, 60_000);

it("alarms at once when the store refuses what it gave before, and goes on with it", async () => {
  const cache = await openCache();
  await read(cache);
  cache.vault.deny("secret/data/app");
  await cache.pass(hourMs);
  expect(cache.alarms).toMatchObject([{ code: "secret_stale" }]);
  await cache.pass(hourMs);
  expect(cache.alarms).toHaveLength(1);
  expect(await read(cache)).toBe("value-number-one");
});

it("exchanges a value only for one that holds", async () => {
  const cache = await openCache();
  const validate = (value: SecretValue): void => {
    if (!value.reveal().startsWith("value-"))
      throw new MigError("secret_invalid", "it does not begin as values do");
  };
  await cache.secrets.get(app, { validate });
  cache.vault.put("app", { key: "rubbish-that-nobody-wants" });
  const error = await errorOf(cache.secrets.refresh(app));
  expect(error).toMatchObject({
    code: "secret_invalid",
    message: `${app}, version 2, cannot be used: "it does not begin as values do"; version 1 stays in use`,
  });
  expect(await read(cache)).toBe("value-number-one");
  expect(cache.alarms).toMatchObject([{ code: "secret_refused", message: error.message }]);
  await errorOf(cache.secrets.refresh(app));
  expect(cache.alarms).toHaveLength(1);
  cache.vault.put("app", { key: "value-number-three" });
  const pair = await cache.secrets.refresh(app);
  expect([pair.current.value.reveal(), pair.previous?.value.reveal()]).toEqual([
    "value-number-three",
    "value-number-one",
  ]);
  expect(cache.alarms.map(({ code }) => code)).toEqual(["secret_refused", "secret_recovered"]);
});

it("does not give a first value that does not hold, nor quote what a parser says of it", async () => {
  const cache = await openCache();
  const validate = (value: SecretValue): void => void JSON.parse(value.reveal());
  const error = await errorOf(cache.secrets.get(app, { validate }));
  expect(error).toMatchObject({ code: "secret_invalid", message: `${app}, version 1, cannot be used` });
  expect(`${error.stack}${cache.lines.join("")}`).not.toContain("value-nu");
  cache.vault.put("app", { key: '{"a":1}' });
  await cache.secrets.refresh(app);
  // Another condition is asked of what is held already, and holds from then on if that meets it.
  const stricter = (): void => {
    throw new Error("never");
  };
  expect((await errorOf(cache.secrets.get(app, { validate: stricter }))).code).toBe("secret_invalid");
  expect(await read(cache)).toBe('{"a":1}');
});

it("keeps the version before beside the current one for a day, and then overwrites it", async () => {
  const cache = await openCache();
  const { value: first } = (await cache.secrets.get(app)).current;
  cache.vault.put("app", { key: "value-number-two" });
  expect((await cache.secrets.refresh(app)).previous?.value).toBe(first);
  for (let hour = 0; hour < 23; hour += 1) await cache.pass(hourMs);
  expect((await cache.secrets.get(app)).previous?.value).toBe(first);
  for (let hour = 0; hour < 3; hour += 1) await cache.pass(hourMs);
  expect((await cache.secrets.get(app)).previous).toBeUndefined();
  cache.clock.advance(61_000);
  expect(() => first.reveal()).toThrow(/disposed/);
}, 30_000);

it("tells who watches of each change once, and one that fails is not the others' trouble", async () => {
  const cache = await openCache();
  const seen: string[] = [];
  cache.secrets.watch(app, () => {
    throw new Error("value-number-two is in my words");
  });
  const unwatch = cache.secrets.watch(app, ({ current }) => void seen.push(current.version));
  await waitFor("the first", () => seen.length === 1);
  cache.vault.put("app", { key: "value-number-two" });
  await cache.secrets.refresh(app);
  await cache.secrets.refresh(app);
  expect(seen).toEqual(["1", "2"]);
  unwatch();
  cache.vault.put("app", { key: "value-number-three" });
  await cache.secrets.refresh(app);
  expect(seen).toEqual(["1", "2"]);
  expect(cache.lines.join("")).not.toContain("value-number");
});

it("asks anew for whoever refreshes while a reading is under way: that one may have been too early", async () => {
  const cache = await openCache();
  await read(cache);
  cache.vault.fail({ kind: "slow", delayMs: 100, times: 1 });
  const early = cache.secrets.refresh(app);
  await waitFor("the first request", () => cache.reads() === 2);
  cache.vault.put("app", { key: "value-number-two" });
  const late = await Promise.all(Array.from({ length: 50 }, () => cache.secrets.refresh(app)));
  await early;
  expect(new Set(late.map(({ current }) => current.value.reveal()))).toEqual(new Set(["value-number-two"]));
  expect(cache.reads()).toBe(3);
});

it("asks no oftener than the gap allows, however many say that they were refused", async () => {
  const cache = await openCache({ refreshGapMs: 2_000 });
  await read(cache);
  for (let time = 0; time < 50; time += 1) await cache.secrets.refresh(app);
  expect(cache.reads()).toBe(1);
  cache.clock.advance(2_001);
  await cache.secrets.refresh(app);
  expect(cache.reads()).toBe(2);
});

it("forgets what nobody has wanted for a day", async () => {
  const cache = await openCache({ refreshMs: 10 * hourMs });
  await read(cache);
  expect(cache.secrets.status().map(({ reference }) => reference)).toContain(app);
  for (let step = 0; step < 2; step += 1) await cache.pass(10 * hourMs);
  cache.clock.advance(20 * hourMs);
  expect(cache.secrets.status().map(({ reference }) => reference)).not.toContain(app);
  expect(await read(cache)).toBe("value-number-one");
});

it("holds a thousand references and refuses the next", async () => {
  const values = Object.fromEntries(
    Array.from({ length: 1_001 }, (_, index) => [`KEY_${index}`, `value-${index}`]),
  );
  const { secrets } = await openLab({ env: { isAllowed: true, values } });
  for (let index = 0; index < 1_000; index += 1) await secrets.get(`env://KEY_${index}`);
  expect(await errorOf(secrets.get("env://KEY_1000"))).toMatchObject({ code: "overloaded" });
  expect((await secrets.get("env://KEY_7")).current.value.reveal()).toBe("value-7");
});

it("ends what is under way when it is closed, overwrites what it held, and gives nothing any more", async () => {
  const cache = await openCache();
  const { value } = (await cache.secrets.get(app)).current;
  cache.vault.fail({ kind: "hang" });
  const waiting = errorOf(cache.secrets.refresh(app));
  await waitFor("the request", () => cache.reads() === 2);
  await cache.secrets.close();
  expect((await waiting).code).toBe("secret_unavailable");
  expect(() => value.reveal()).toThrow(/disposed/);
  const before = cache.vault.requests.length;
  expect((await errorOf(cache.secrets.get(app))).code).toBe("secret_unavailable");
  cache.clock.advance(100 * hourMs);
  expect(cache.vault.requests.length).toBe(before);
});

it("refuses references that are wrong, and stores that are not set up", async () => {
  const { secrets } = await openLab({});
  expect((await errorOf(secrets.get("nonsense"))).code).toBe("settings_invalid");
  for (const address of ["vault.internal:8200", "nowhere", ""])
    expect(
      await errorOf(openLab({ vault: { address, login: { method: "token", token: "env://T" } } })),
    ).toMatchObject({
      code: "settings_invalid",
      message: expect.stringMatching(/Vault's address is a URL/),
    });
  const plain = await openLab({
    vault: { address: "http://vault.internal", login: { method: "token", token: "env://T" } },
  });
  expect(plain.lines.join("")).toMatch(/not https/);
  const own = openLab({
    vault: { address: "http://127.0.0.1", login: { method: "token", token: "vault://a/b#c" } },
  });
  expect((await errorOf(own)).message).toMatch(/cannot be in Vault/);
  expect((await errorOf(secrets.get("vault://secret/app#key"))).message).toMatch(/secrets\.vault\.address/);
  expect((await errorOf(secrets.get("db://app/1"))).message).toMatch(/secrets\.master_key/);
  expect((await errorOf(secrets.signers("vault-transit://transit/app"))).message).toMatch(
    /secrets\.vault\.address/,
  );
  expect((await errorOf(secrets.signers("vault://secret/app#key"))).message).toMatch(
    /begin with vault-transit/,
  );
});
