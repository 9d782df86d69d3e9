import { createPublicKey, createVerify } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { createTestCa, startVault, type Vault, type VaultOptions } from "@mig/sandbox";
import { describe, expect, it } from "vitest";
import {
  closing,
  createHandClock,
  errorOf,
  type HandClock,
  makeDirectory,
  makeRsaPem,
  openLab,
  type SecretsLab,
} from "./secrets-lab.ts";

const jwt = "eyJhbGciOiJSUzI1NiJ9.cG9kLW9uZQ.c2lnbmF0dXJlLW9uZQ";
const role = { jwt, ttlS: 90, maxTtlS: 300 };
const app = "vault://secret/app#key";

interface Pod extends SecretsLab {
  vault: Vault;
  clock: HandClock;
  /** The pod's own token, as kubelet puts it there. */
  writeJwt(text: string): Promise<void>;
  /** Time passes, here and in Vault. */
  advance(ms: number): void;
  asked(path: string): number;
}

async function openPod(options: VaultOptions = {}): Promise<Pod> {
  const vault = closing(await startVault({ roles: { mig: role }, ...options }));
  vault.put("app", { key: "kubernetes-login-value" });
  const directory = await makeDirectory();
  const file = join(directory, "token");
  const writeJwt = (text: string): Promise<void> => writeFile(file, text, { mode: 0o600 });
  await writeJwt(jwt);
  const clock = createHandClock();
  const lab = await openLab({
    clock,
    vault: { address: vault.url, login: { method: "kubernetes", role: "mig", jwt: `file://${file}` } },
  });
  return {
    ...lab,
    vault,
    clock,
    writeJwt,
    advance(ms) {
      vault.advance(ms);
      clock.advance(ms);
    },
    asked: (path) => vault.requests.filter((one) => one.path === `/v1/${path}`).length,
  };
}

async function openWithToken(options: VaultOptions & { namespace?: string; ttlS?: number } = {}) {
  const vault = closing(await startVault(options));
  const directory = await makeDirectory();
  const file = join(directory, "token");
  const token = vault.giveToken(options.ttlS === undefined ? {} : { ttlS: options.ttlS });
  await writeFile(file, `${token}\n`, { mode: 0o600 });
  const lab = await openLab({
    vault: {
      address: vault.url,
      login: { method: "token", token: `file://${file}` },
      ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
    },
  });
  return { ...lab, vault, file, token };
}

describe("Vault's KV engine", () => {
  it("gives a field of the newest version, of a pinned one, and the one before", async () => {
    const { vault, secrets } = await openWithToken();
    vault.put("a/b", { key: "version-one", other: "x" });
    vault.put("a/b", { key: "version-two" });
    vault.put("a/b", { key: "version-three" });
    const pair = await secrets.get("vault://secret/a/b#key", { previous: true });
    expect([pair.current.version, pair.current.value.reveal()]).toEqual(["3", "version-three"]);
    expect([pair.previous?.version, pair.previous?.value.reveal()]).toEqual(["2", "version-two"]);
    const pinned = await secrets.get("vault://secret/a/b?version=1#key", { previous: true });
    expect(pinned.current.value.reveal()).toBe("version-one");
    expect(pinned.previous).toBeUndefined();
  });

  it("has no version before one that was deleted or did not exist", async () => {
    const { vault, secrets } = await openWithToken();
    vault.put("a", { key: "version-one" });
    expect((await secrets.get("vault://secret/a#key", { previous: true })).previous).toBeUndefined();
    vault.put("b", { key: "version-one" });
    vault.put("b", { key: "version-two" });
    vault.remove("b", 1);
    expect((await secrets.get("vault://secret/b#key", { previous: true })).previous).toBeUndefined();
  });

  it("says what is wrong: no path, no field, deleted, destroyed, another engine, no permission, sealed", async () => {
    const { vault, secrets } = await openWithToken();
    vault.put("a", { key: "the-value", number: 7, empty: "" });
    vault.put("gone", { key: "x" });
    vault.remove("gone", 1);
    vault.put("crushed", { key: "x" });
    vault.remove("crushed", 1, "destroyed");
    vault.put("denied", { key: "x" });
    vault.deny("secret/data/denied");
    const cases: [string, string, RegExp][] = [
      ["vault://secret/none#key", "secret_invalid", /has no vault:\/\/secret\/none#key \(404\)/],
      ["vault://secret/a#other", "secret_invalid", /no such field.*"key, number, empty"/],
      ["vault://secret/a#number", "secret_invalid", /it is no text/],
      ["vault://secret/a#empty", "secret_invalid", /no such field, or it is no text/],
      ["vault://secret/gone#key", "secret_invalid", /this version is deleted.*undelete it/],
      ["vault://secret/crushed#key", "secret_invalid", /this version is destroyed/],
      ["vault://kv1/a#key", "secret_invalid", /no handler for route/],
      [
        "vault://secret/denied#key",
        "secret_forbidden",
        /it takes the capability "read" on secret\/data\/denied/,
      ],
    ];
    for (const [reference, code, message] of cases) {
      const error = await errorOf(secrets.get(reference));
      expect(error.code, reference).toBe(code);
      expect(error.message).toMatch(message);
    }
    vault.seal();
    const sealed = await errorOf(secrets.refresh("vault://secret/a#key"));
    expect(sealed).toMatchObject({
      code: "secret_unavailable",
      message: expect.stringMatching(/is sealed; somebody has to unseal it/),
    });
    vault.unseal();
    expect((await secrets.refresh("vault://secret/a#key")).current.value.reveal()).toBe("the-value");
  }, 20_000);

  it("keeps namespaces apart: the setting's, and the reference's before it", async () => {
    const { vault, secrets } = await openWithToken({ namespace: "team/one" });
    vault.put("app", { key: "of-team-one" }, "team/one");
    vault.put("app", { key: "of-team-two" }, "team/two");
    expect((await secrets.get(app)).current.value.reveal()).toBe("of-team-one");
    const other = "vault://secret/app?namespace=team/two#key";
    expect((await secrets.get(other)).current.value.reveal()).toBe("of-team-two");
  });

  it("obeys a quota's Retry-After", async () => {
    const { vault, secrets } = await openWithToken();
    vault.put("app", { key: "value-of-app" });
    await secrets.get(app);
    vault.limit(3, 30);
    const before = vault.requests.length;
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_unavailable",
      retryAfterMs: 30_000,
    });
    expect(vault.requests.length).toBe(before + 1);
  });
});

describe("Vault's token from a file", () => {
  it("is exchanged where it lies: the next refusal finds the new one", async () => {
    const { vault, secrets, file, token } = await openWithToken();
    vault.put("app", { key: "value-of-app" });
    await secrets.get(app);
    vault.revoke(token);
    await writeFile(file, vault.giveToken());
    vault.put("app", { key: "value-two-of-app" });
    expect((await secrets.refresh(app)).current.value.reveal()).toBe("value-two-of-app");
  });

  it("that Vault does not know is a setting to correct", async () => {
    const { vault, secrets, token } = await openWithToken();
    vault.revoke(token);
    const error = await errorOf(secrets.get(app));
    expect(error).toMatchObject({ code: "secret_forbidden", category: "misconfig" });
    expect(error.message).toMatch(/does not know the token that we were given/);
  });
});

describe("Vault's Kubernetes login", () => {
  it("buys one token, keeps it alive, and buys another before the lease reaches its maximum", async () => {
    const pod = await openPod();
    await pod.secrets.get(app);
    expect(pod.asked("auth/kubernetes/login")).toBe(1);
    const leftS = (): number => Math.max(...pod.vault.tokens().map((token) => pod.vault.leftS(token)));
    for (let step = 0; step < 600; step += 1) {
      pod.advance(2_000);
      // Time stands still while what was begun goes on: at 20 s and more before the end of any lease.
      await waitFor("a token with some time left", () => leftS() > 10, { everyMs: 1 });
      await pod.secrets.refresh(app);
    }
    // Each token lives 300 s at most: 20 minutes take four logins and more, and no read was ever refused.
    expect(pod.asked("auth/kubernetes/login")).toBeGreaterThanOrEqual(4);
    expect(pod.asked("auth/kubernetes/login")).toBeLessThanOrEqual(12);
    expect(pod.asked("auth/token/renew-self")).toBeGreaterThanOrEqual(4);
    expect(pod.vault.requests.filter(({ status }) => status === 403)).toEqual([]);
    expect(pod.alarms).toEqual([]);
  });

  it("logs in anew when the token was revoked, with the pod's newest token", async () => {
    const pod = await openPod();
    await pod.secrets.get(app);
    for (const token of pod.vault.tokens()) pod.vault.revoke(token);
    pod.vault.setJwt("mig", `${jwt}2`);
    await pod.writeJwt(`${jwt}2`);
    expect((await pod.secrets.refresh(app)).current.value.reveal()).toBe("kubernetes-login-value");
    expect(pod.asked("auth/kubernetes/login")).toBe(2);
  });

  it("does not log in again for what the policy refuses", async () => {
    const pod = await openPod();
    await pod.secrets.get(app);
    pod.vault.deny("secret/data/app");
    for (let time = 0; time < 5; time += 1)
      expect((await errorOf(pod.secrets.refresh(app))).code).toBe("secret_forbidden");
    expect(pod.asked("auth/kubernetes/login")).toBe(1);
    expect((await pod.secrets.get(app)).current.value.reveal()).toBe("kubernetes-login-value");
  });

  it("says what is wrong with the role and with the pod's token", async () => {
    const other = await openPod({ roles: {} });
    expect((await errorOf(other.secrets.get(app))).message).toMatch(
      /refuses the request for a login as role "mig" \(400\): "invalid role name/,
    );
    const pod = await openPod();
    await pod.writeJwt("eyJhbGciOiJSUzI1NiJ9.b3RoZXI.b3RoZXI");
    expect(await errorOf(pod.secrets.get(app))).toMatchObject({ code: "secret_forbidden" });
  });

  it("survives a Vault that is sealed when the lease is to be renewed", async () => {
    const pod = await openPod();
    await pod.secrets.get(app);
    pod.vault.seal();
    pod.advance(61_000);
    await waitFor("a renewal that fails", () => pod.lines.some((line) => line.includes("was not renewed")));
    pod.vault.unseal();
    pod.advance(10_000);
    await waitFor("the renewal", () =>
      pod.vault.requests.some(({ path, status }) => path.endsWith("renew-self") && status === 200),
    );
    pod.advance(50_000);
    expect((await pod.secrets.refresh(app)).current.value.reveal()).toBe("kubernetes-login-value");
    expect(pod.asked("auth/kubernetes/login")).toBe(1);
  });

  it("gives its token back when it is closed", async () => {
    const pod = await openPod();
    await pod.secrets.get(app);
    expect(pod.vault.tokens()).toHaveLength(1);
    await pod.secrets.close();
    expect(pod.vault.tokens()).toEqual([]);
  });
});

describe("Vault over TLS", () => {
  it("is trusted by the certificate authority of the settings, and by no other", async () => {
    const ca = await createTestCa();
    const { certPem: cert, keyPem: key } = await ca.issue({ hosts: ["127.0.0.1"] });
    const vault = closing(await startVault({ tls: { cert, key } }));
    vault.put("app", { key: "value-over-tls" });
    const directory = await makeDirectory();
    await writeFile(join(directory, "token"), vault.giveToken(), { mode: 0o600 });
    await writeFile(join(directory, "ca.pem"), ca.caPem);
    await writeFile(join(directory, "other.pem"), (await createTestCa()).caPem);
    const open = (caFile?: string) =>
      openLab({
        vault: {
          address: vault.url,
          login: { method: "token", token: `file://${directory}/token` },
          ...(caFile === undefined ? {} : { caFile: join(directory, caFile) }),
        },
      });
    expect((await (await open("ca.pem")).secrets.get(app)).current.value.reveal()).toBe("value-over-tls");
    for (const file of [undefined, "other.pem"]) {
      const error = await errorOf((await open(file)).secrets.get(app));
      expect(error).toMatchObject({
        code: "secret_forbidden",
        message: expect.stringMatching(/certificate that is not trusted/),
      });
    }
    expect((await errorOf((await open("none.pem")).secrets.get(app))).message).toMatch(
      /none\.pem cannot be read \(ENOENT\)/,
    );
    expect(vault.requests.length).toBe(2);
  });
});

describe("Vault's transit engine", () => {
  const reference = "vault-transit://transit/github-app";

  it("signs RS256 without the key, with both versions while it is being changed", async () => {
    const { vault, secrets } = await openWithToken();
    const pems = [makeRsaPem(), makeRsaPem(3072)];
    vault.importKey("github-app", pems[0] ?? "");
    const [first] = await secrets.signers(reference);
    const text = Buffer.from("header.claims");
    const isSignedBy = (pem = "", signature: Buffer): boolean =>
      createVerify("RSA-SHA256").update(text).verify(createPublicKey(pem), signature);
    expect(isSignedBy(pems[0], (await first?.sign("RS256", text)) ?? Buffer.alloc(0))).toBe(true);
    expect(first?.fingerprint).toMatch(/^[A-Za-z0-9+/]{43}=$/);

    vault.importKey("github-app", pems[1] ?? "");
    await secrets.close();
    const again = await openLab({
      vault: { address: vault.url, login: { method: "token", token: "env://T" } },
      env: { isAllowed: true, values: { T: vault.giveToken() } },
    });
    const both = await again.secrets.signers(reference);
    expect(both.map(({ version }) => version)).toEqual(["2", "1"]);
    expect(isSignedBy(pems[1], (await both[0]?.sign("RS256", text)) ?? Buffer.alloc(0))).toBe(true);
    expect(isSignedBy(pems[0], (await both[1]?.sign("RS256", text)) ?? Buffer.alloc(0))).toBe(true);
    expect(both[1]?.fingerprint).toBe(first?.fingerprint);
  });

  it("says what is wrong with the key", async () => {
    const { vault, secrets } = await openWithToken();
    expect(await errorOf(secrets.signers(reference))).toMatchObject({ code: "secret_invalid" });
    vault.importKey("short", makeRsaPem(1024));
    expect((await errorOf(secrets.signers("vault-transit://transit/short"))).message).toMatch(
      /not an RSA key of 2048 bits/,
    );
    vault.importKey("app", makeRsaPem());
    const [signer] = await secrets.signers("vault-transit://transit/app");
    vault.deny("transit/sign/app/sha2-256");
    const refused = await errorOf(signer?.sign("RS256", Buffer.from("x")) ?? Promise.resolve());
    expect(refused).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/"update" on transit\/sign\/app/),
    });
    expect((await errorOf(signer?.sign("RS256", Buffer.alloc(70_000)) ?? Promise.resolve())).code).toBe(
      "secret_invalid",
    );
  });
});
