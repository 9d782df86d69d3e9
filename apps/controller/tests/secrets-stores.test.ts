import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type StoreFault,
  type StoreServer,
  startAwsSecretsManager,
  startGcpMetadata,
  startGcpSecretManager,
  startKubernetesApi,
  startVault,
} from "@mig/sandbox";
import { describe, expect, it, vi } from "vitest";
import type { SecretsSettings } from "../src/secrets/open-secrets.ts";
import { SecretValue } from "../src/secrets/secret-value.ts";
import { closing, errorOf, makeDirectory, openLab } from "./secrets-lab.ts";

/** What is the same for every store that is asked over a network, with the stores' own programs at the other end. */
interface Store {
  name: string;
  reference: string;
  start(timeoutMs: number): Promise<{
    server: StoreServer;
    settings: Omit<SecretsSettings, "log" | "onAlarm">;
    /** A new version. */
    put(value: string): void;
    /** What goes over the wire and must not be repeated by anybody. */
    credential: () => string;
  }>;
}

const gcp: Store = {
  name: "Google Secret Manager",
  reference: "gcpsm://projects/acme/secrets/app",
  async start(timeoutMs) {
    const server = closing(await startGcpSecretManager());
    // The token comes as it does on a Google VM, through Google's own library.
    const metadata = closing(await startGcpMetadata());
    const token = server.giveToken();
    metadata.setFact(
      "service-accounts/default/token",
      JSON.stringify({ access_token: token, expires_in: 3_599, token_type: "Bearer" }),
    );
    vi.stubEnv("GCE_METADATA_HOST", new URL(metadata.url).host);
    return {
      server,
      settings: { gcp: { endpoint: server.url, timeoutMs } },
      put: (value) => void server.put("acme", "app", value),
      credential: () => token,
    };
  },
};

const aws: Store = {
  name: "AWS Secrets Manager",
  reference: "awssm://prod/app?region=eu-west-1",
  async start(timeoutMs) {
    const secretAccessKey = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";
    const keys = {
      accessKeyId: "TESTACCESSKEYID",
      secretAccessKey,
      sessionToken: "sessionTokenForTheTest0123456789",
    };
    const server = closing(await startAwsSecretsManager(keys));
    const credentials = {
      accessKeyId: keys.accessKeyId,
      secretAccessKey: new SecretValue(secretAccessKey),
      sessionToken: new SecretValue(keys.sessionToken),
    };
    return {
      server,
      settings: { aws: { endpoint: server.url, credentials, timeoutMs } },
      put: (value) => void server.put("prod/app", value),
      credential: () => keys.sessionToken,
    };
  },
};

const vault: Store = {
  name: "Vault",
  reference: "vault://secret/mig/app#key",
  async start(timeoutMs) {
    const server = closing(await startVault());
    const token = server.giveToken();
    const directory = await makeDirectory();
    await writeFile(join(directory, "token"), `${token}\n`, { mode: 0o600 });
    return {
      server,
      settings: {
        vault: {
          address: server.url,
          login: { method: "token", token: `file://${directory}/token` },
          timeoutMs,
        },
      },
      put: (value) => void server.put("mig/app", { key: value }),
      credential: () => token,
    };
  },
};

const kubernetes: Store = {
  name: "Kubernetes",
  reference: "k8s://mig/app#key",
  async start(timeoutMs) {
    const token = "eyJhbGciOiJSUzI1NiJ9.c2VydmljZS1hY2NvdW50.c2lnbmF0dXJl";
    const server = closing(await startKubernetesApi({ token }));
    const directory = await makeDirectory();
    await writeFile(join(directory, "token"), token, { mode: 0o600 });
    await chmod(join(directory, "token"), 0o600);
    return {
      server,
      settings: {
        kubernetes: {
          api: server.url,
          tokenFile: join(directory, "token"),
          caFile: join(directory, "none"),
          timeoutMs,
        },
      },
      put: (value) => server.put("mig", "app", { key: value }),
      credential: () => token,
    };
  },
};

const faults: [string, StoreFault, RegExp][] = [
  ["never answers", { kind: "hang" }, /does not answer/],
  ["breaks off in the middle", { kind: "cut" }, /cannot be reached|unreadable|something else/],
  ["speaks no HTTP", { kind: "garbage" }, /cannot be reached/],
  ["answers without end", { kind: "endless" }, /more than 2097152 bytes/],
  ["is broken", { kind: "status", status: 500 }, /cannot answer now|unreadable/],
  [
    "stands behind a proxy that has lost it",
    { kind: "status", status: 502, body: "<html>Bad Gateway</html>" },
    /cannot answer now/,
  ],
  ["is overloaded", { kind: "status", status: 503 }, /cannot answer now/],
  [
    "sends elsewhere",
    { kind: "status", status: 307, headers: { location: "http://127.0.0.1:9/v1" } },
    /redirects to http:\/\/127\.0\.0\.1:9, which is not followed/,
  ],
];

describe.each([gcp, aws, vault, kubernetes])("$name", (store) => {
  it("gives a secret, and its next version when it is asked again", async () => {
    const { put, settings } = await store.start(2_000);
    put("value-number-one");
    const { secrets } = await openLab(settings);
    const first = await secrets.get(store.reference);
    expect(first.current.value.reveal()).toBe("value-number-one");
    expect(first.previous).toBeUndefined();
    put("value-number-two");
    expect((await secrets.get(store.reference)).current.value.reveal()).toBe("value-number-one");
    const second = await secrets.refresh(store.reference);
    expect(second.current.value.reveal()).toBe("value-number-two");
    expect(second.current.version).not.toBe(first.current.version);
    expect(second.previous?.value.reveal()).toBe("value-number-one");
  });

  it.each(faults)(
    "that %s is tried three times, within the time limit, and is well again at once after it",
    async (_what, fault, said) => {
      const { server, put, settings } = await store.start(250);
      put("value-behind-a-fault");
      const { secrets } = await openLab(settings);
      server.fail(fault);
      const startedMs = performance.now();
      const error = await errorOf(secrets.get(store.reference));
      expect(error).toMatchObject({ code: "secret_unavailable", category: "transient" });
      expect(error.message).toMatch(said);
      expect(server.requests.length).toBe(3);
      expect(performance.now() - startedMs).toBeLessThan(5_000);
      server.mend();
      expect((await secrets.refresh(store.reference)).current.value.reveal()).toBe("value-behind-a-fault");
    },
    20_000,
  );

  it("that fails once gives the secret all the same", async () => {
    const { server, put, settings } = await store.start(2_000);
    put("value-after-one-fault");
    server.fail({ kind: "cut", times: 1 });
    const { secrets } = await openLab(settings);
    expect((await secrets.get(store.reference)).current.value.reveal()).toBe("value-after-one-fault");
  });

  it("that asks for patience is not asked before that time, and not by those who wait", async () => {
    const { server, put, settings } = await store.start(2_000);
    put("value-for-the-patient");
    const { secrets } = await openLab(settings);
    server.fail({ kind: "status", status: 429, headers: { "retry-after": "60" } });
    const error = await errorOf(secrets.get(store.reference));
    expect(error).toMatchObject({ code: "secret_unavailable", retryAfterMs: 60_000 });
    const asked = server.requests.length;
    server.mend();
    await Promise.all(Array.from({ length: 20 }, () => errorOf(secrets.get(store.reference))));
    expect(server.requests.length).toBe(asked);
  });

  it("is asked once for many who ask at once", async () => {
    const { server, put, settings } = await store.start(5_000);
    put("value-for-many");
    const { secrets } = await openLab(settings);
    await secrets.get(store.reference);
    const before = server.requests.length;
    server.fail({ kind: "slow", delayMs: 100, times: 1 });
    await Promise.all([
      secrets.refresh(store.reference),
      ...Array.from({ length: 100 }, () => secrets.get(store.reference)),
    ]);
    expect(server.requests.length).toBe(before + 1);
  });

  it("that echoes our credentials in an error does not get them into ours, nor into the log", async () => {
    const { server, put, settings, credential } = await store.start(2_000);
    put("value-never-seen");
    const { secrets, lines } = await openLab(settings);
    for (const status of [400, 401, 403, 404, 418, 500]) {
      server.fail({ kind: "status", status, echo: true });
      const error = await errorOf(secrets.refresh(store.reference));
      expect(error.message).not.toContain(credential());
      expect(JSON.stringify([error.stack, error.cause ?? null])).not.toContain(credential());
    }
    expect(lines.join("")).not.toContain(credential());
    expect(lines.length).toBeGreaterThan(5);
  }, 30_000);

  it("that is not there says so", async () => {
    const { server, settings } = await store.start(500);
    const { secrets } = await openLab(settings);
    await server.close();
    expect(await errorOf(secrets.get(store.reference))).toMatchObject({
      code: "secret_unavailable",
      message: expect.stringMatching(/cannot be reached \(ECONNREFUSED\)/),
    });
  });
});
