import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "@mig/kit";
import { createSecretMount, createTestCa, startKubernetesApi } from "@mig/sandbox";
import { describe, expect, it } from "vitest";
import { closing, errorOf, makeDirectory, openLab } from "./secrets-lab.ts";

describe("a file", () => {
  it("loses the line end that an editor left, and no byte otherwise", async () => {
    const directory = await makeDirectory();
    const { secrets } = await openLab({});
    const cases: [string, Buffer, Buffer][] = [
      ["plain", Buffer.from("token"), Buffer.from("token")],
      ["unix", Buffer.from("token\n"), Buffer.from("token")],
      ["windows", Buffer.from("token\r\n"), Buffer.from("token")],
      ["two", Buffer.from("token\n\n"), Buffer.from("token\n")],
      ["binary", Buffer.from([0xff, 0x00, 0x0a]), Buffer.from([0xff, 0x00, 0x0a])],
    ];
    for (const [name, written, read] of cases) {
      await writeFile(join(directory, name), written, { mode: 0o600 });
      expect((await secrets.get(`file://${directory}/${name}`)).current.value.revealBytes()).toEqual(read);
    }
  });

  it("that is none, or not to be used, says why", async () => {
    const directory = await makeDirectory();
    await writeFile(join(directory, "empty"), "");
    await writeFile(join(directory, "line"), "\n");
    await writeFile(join(directory, "long"), Buffer.alloc(64 * 1024 + 1, "x"));
    await mkdir(join(directory, "folder"));
    await symlink("loop", join(directory, "loop"));
    execFileSync("mkfifo", [join(directory, "pipe")]);
    const { secrets } = await openLab({});
    const cases: [string, string, RegExp][] = [
      ["none", "secret_invalid", /does not exist/],
      ["empty", "secret_invalid", /is empty/],
      ["line", "secret_invalid", /is empty/],
      ["long", "secret_invalid", /longer than 65536 bytes/],
      ["folder", "secret_invalid", /is not a file/],
      ["pipe", "secret_invalid", /is not a file/],
      ["loop", "secret_unavailable", /cannot be read \(ELOOP\)/],
      ["empty/below", "secret_invalid", /a directory on the way does not/],
    ];
    for (const [name, code, message] of cases) {
      const error = await errorOf(secrets.get(`file://${directory}/${name}`));
      expect(error.code, name).toBe(code);
      expect(error.message).toMatch(message);
    }
  });

  it("that everybody may read is told once", async () => {
    const directory = await makeDirectory();
    await writeFile(join(directory, "key"), "value-of-a-file");
    await chmod(join(directory, "key"), 0o644);
    const { secrets, lines } = await openLab({});
    for (let time = 0; time < 3; time += 1) await secrets.refresh(`file://${directory}/key`);
    expect(lines.filter((line) => line.includes("everybody on this machine"))).toHaveLength(1);
  });

  it("that is exchanged while it is read is the old one or the new one", async () => {
    const directory = await makeDirectory();
    const path = join(directory, "key");
    const versions = Array.from({ length: 30 }, () => randomBytes(20_000).toString("base64"));
    await writeFileAtomic(path, versions[0] ?? "");
    const { secrets } = await openLab({});
    const known = new Set(versions);
    let isWriting = true;
    const writer = (async () => {
      for (const version of versions) await writeFileAtomic(path, version);
      isWriting = false;
    })();
    let reads = 0;
    while (isWriting) {
      expect(known.has((await secrets.refresh(`file://${path}`)).current.value.reveal())).toBe(true);
      reads += 1;
    }
    await writer;
    expect(reads).toBeGreaterThan(3);
    expect((await secrets.refresh(`file://${path}`)).current.value.reveal()).toBe(versions.at(-1));
  });
});

describe("the environment", () => {
  it("is for development, and given by config/env.ts", async () => {
    const values = { APP_KEY: "value-of-the-environment", EMPTY: "" };
    const dev = await openLab({ env: { isAllowed: true, values } });
    expect((await dev.secrets.get("env://APP_KEY")).current.value.reveal()).toBe("value-of-the-environment");
    for (const name of ["EMPTY", "NONE", "constructor", "__proto__"])
      expect(await errorOf(dev.secrets.get(`env://${name}`))).toMatchObject({
        code: "secret_invalid",
        message: `env://${name} is not set`,
      });
    const normal = await openLab({ env: { isAllowed: false, values } });
    expect(await errorOf(normal.secrets.get("env://APP_KEY"))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/development mode/),
    });
  });
});

describe("a Secret that kubelet mounts", () => {
  it("is read through its links at each reading, old or new and never mixed", async () => {
    const directory = join(await makeDirectory(), "mount");
    const mount = createSecretMount(directory);
    const versions = Array.from({ length: 40 }, () => randomBytes(5_000).toString("base64"));
    await mount.write({ "key.pem": versions[0] ?? "" });
    const { secrets } = await openLab({});
    const reference = `k8s://mig/app?mount=${encodeURIComponent(directory)}#key.pem`;
    expect((await secrets.get(reference)).current.value.reveal()).toBe(versions[0]);
    let isWriting = true;
    const writer = (async () => {
      for (const version of versions) await mount.write({ "key.pem": version });
      isWriting = false;
    })();
    const known = new Set(versions);
    while (isWriting) {
      // Between the links a directory may be gone: that is told as a failure and retried, and is never half a key.
      const pair = await secrets.refresh(reference).catch(() => secrets.get(reference));
      expect(known.has(pair.current.value.reveal())).toBe(true);
    }
    await writer;
    expect((await secrets.refresh(reference)).current.value.reveal()).toBe(versions.at(-1));
  });

  it("that lacks the key names those that are there", async () => {
    const directory = join(await makeDirectory(), "mount");
    await createSecretMount(directory).write({ one: "1", two: "2" });
    const { secrets } = await openLab({});
    const error = await errorOf(secrets.get(`k8s://mig/app?mount=${encodeURIComponent(directory)}#three`));
    expect(error).toMatchObject({
      code: "secret_invalid",
      message: expect.stringMatching(/no such key in its mount; there are "one, two"/),
    });
    expect((await errorOf(secrets.get("k8s://mig/app?mount=%2Fnone%2Fat%2Fall#key"))).code).toBe(
      "secret_invalid",
    );
  });
});

describe("Kubernetes' API", () => {
  const app = "k8s://mig/app#key.pem";
  const token = "eyJhbGciOiJSUzI1NiJ9.c2VydmljZQ.YWNjb3VudA";

  async function openCluster() {
    const ca = await createTestCa();
    const { certPem: cert, keyPem: key } = await ca.issue({ hosts: ["127.0.0.1"] });
    const api = closing(await startKubernetesApi({ token, tls: { cert, key } }));
    api.put("mig", "app", { "key.pem": "value-of-the-cluster", raw: Buffer.from([0, 255]) });
    const directory = await makeDirectory();
    const kubernetes = {
      api: api.url,
      tokenFile: join(directory, "token"),
      caFile: join(directory, "ca.crt"),
    };
    await writeFile(kubernetes.tokenFile, `${token}\n`);
    await writeFile(kubernetes.caFile, ca.caPem);
    return { ...(await openLab({ kubernetes })), api, kubernetes };
  }

  it("gives a key as text and as bytes, over TLS with the cluster's own authority", async () => {
    const { secrets } = await openCluster();
    expect((await secrets.get(app)).current.value.reveal()).toBe("value-of-the-cluster");
    expect((await secrets.get("k8s://mig/app#raw")).current.value.revealBytes()).toEqual(
      Buffer.from([0, 255]),
    );
  });

  it("reads the token anew each time: kubelet exchanges it", async () => {
    const { secrets, api, kubernetes } = await openCluster();
    await secrets.get(app);
    api.setToken(`${token}2`);
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/does not take our credentials \(401/),
    });
    await writeFile(kubernetes.tokenFile, `${token}2`);
    await secrets.refresh(app);
  });

  it("trusts the cluster's new authority without a restart, and no other", async () => {
    const { secrets, kubernetes } = await openCluster();
    await secrets.get(app);
    await writeFile(kubernetes.caFile, (await createTestCa()).caPem);
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/certificate that is not trusted/),
    });
  });

  it("says what is wrong: no Role, no Secret, no key, no token; and asks again what is too old", async () => {
    const { secrets, api, kubernetes } = await openCluster();
    expect((await errorOf(secrets.get("k8s://mig/none#k"))).message).toMatch(
      /\(404\): "secrets "none" not found"/,
    );
    expect((await errorOf(secrets.get("k8s://mig/app#none"))).message).toMatch(
      /no such key, or it is empty; there are "key\.pem, raw"/,
    );
    api.expire(1);
    await secrets.get(app);
    api.deny("mig", "app");
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(
        /a Role in mig with the verb "get" on secrets, resourceNames: \["app"\]/,
      ),
    });
    const other = await openLab({ kubernetes: { ...kubernetes, tokenFile: `${kubernetes.tokenFile}-none` } });
    expect((await errorOf(other.secrets.get(app))).message).toMatch(
      /no service account token at .*automountServiceAccountToken/,
    );
  });
});
