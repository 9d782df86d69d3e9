import { rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { startAwsSecretsManager, startGcpMetadata, startGcpSecretManager } from "@mig/sandbox";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { SecretValue } from "../src/secrets/secret-value.ts";
import { closing, errorOf, makeDirectory, openLab } from "./secrets-lab.ts";

describe("Google Secret Manager", () => {
  const app = "gcpsm://projects/acme/secrets/app";

  async function openGcp() {
    const server = closing(await startGcpSecretManager());
    const metadata = closing(await startGcpMetadata());
    const setToken = (token: string): void =>
      metadata.setFact(
        "service-accounts/default/token",
        JSON.stringify({ access_token: token, expires_in: 3_599, token_type: "Bearer" }),
      );
    setToken(server.giveToken());
    vi.stubEnv("GCE_METADATA_HOST", new URL(metadata.url).host);
    return { ...(await openLab({ gcp: { endpoint: server.url } })), server, metadata, setToken };
  }

  it("is taken at its checksum: a flipped bit is asked for again, and never given out", async () => {
    const { server, secrets } = await openGcp();
    server.put("acme", "app", Buffer.from([0, 255, 1, 254]));
    server.corrupt(2);
    expect((await secrets.get(app)).current.value.revealBytes()).toEqual(Buffer.from([0, 255, 1, 254]));
    server.corrupt(100);
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_unavailable",
      message: expect.stringMatching(/damaged on its way/),
    });
  });

  it("gives latest, a pinned version, another region's, and the one before", async () => {
    const { server, secrets } = await openGcp();
    server.put("acme", "app", "version-one");
    server.put("acme", "app", "version-two");
    server.put("acme", "app", "of-a-region", "europe-west1");
    const pair = await secrets.get(app, { previous: true });
    expect([pair.current.version, pair.previous?.value.reveal()]).toEqual(["2", "version-one"]);
    expect((await secrets.get(`${app}/versions/1`)).current.value.reveal()).toBe("version-one");
    const regional = "gcpsm://projects/acme/locations/europe-west1/secrets/app";
    expect((await secrets.get(regional)).current.value.reveal()).toBe("of-a-region");
  });

  it("has no version before one that is disabled", async () => {
    const { server, secrets } = await openGcp();
    server.put("acme", "app", "version-one");
    server.put("acme", "app", "version-two");
    server.setState("acme", "app", 1, "DISABLED");
    expect((await secrets.get(app, { previous: true })).previous).toBeUndefined();
    server.setState("acme", "app", 2, "DESTROYED");
    expect((await errorOf(secrets.refresh(app))).message).toMatch(
      /disabled or destroyed; enable a version.*DESTROYED state/,
    );
  });

  it("says which permission is missing, and what is not there", async () => {
    const { server, secrets } = await openGcp();
    expect((await errorOf(secrets.get(app))).message).toMatch(
      /Google Secret Manager has no gcpsm:.* \(404\): "Secret \[projects/,
    );
    server.put("acme", "app", "version-one");
    server.deny("acme", "app");
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/it takes secretmanager\.versions\.access/),
    });
  });

  it("takes another access token when the one it has is refused", async () => {
    const { server, secrets, setToken } = await openGcp();
    server.put("acme", "app", "version-one");
    await secrets.get(app);
    server.forgetTokens();
    setToken(server.giveToken());
    server.put("acme", "app", "version-two");
    expect((await secrets.refresh(app)).current.value.reveal()).toBe("version-two");
    server.forgetTokens();
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/\(401/),
    });
  });

  it("says that there are no credentials, or that their server is away", async () => {
    const { server, secrets, metadata } = await openGcp();
    server.put("acme", "app", "version-one");
    metadata.fail({ kind: "status", status: 403 });
    expect((await errorOf(secrets.get(app))).code).toMatch(/secret_forbidden|secret_unavailable/);
    const directory = await makeDirectory();
    const other = await openLab({ gcp: { endpoint: server.url, keyFile: join(directory, "none.json") } });
    expect(await errorOf(other.secrets.get(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/no Google credentials/),
    });
  });

  it("uses a workload identity's configuration: its token server is asked with the proof, and neither is repeated", async () => {
    const store = closing(await startGcpSecretManager());
    store.put("acme", "app", "by-workload-identity");
    const proof = "eyJhbGciOiJSUzI1NiJ9.d29ya2xvYWQ.c2lnbmF0dXJlMTIz";
    const directory = await makeDirectory();
    await writeFile(join(directory, "proof"), proof);
    let isBroken = false;
    const seen: string[] = [];
    const sts = createServer((request, response) => {
      let body = "";
      request.on("data", (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on("end", () => {
        seen.push(body);
        const answer = isBroken
          ? { error: "invalid_grant", error_description: `no such subject ${proof}` }
          : {
              access_token: store.giveToken(),
              issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
              token_type: "Bearer",
              expires_in: 3_600,
            };
        response
          .writeHead(isBroken ? 400 : 200, { "content-type": "application/json" })
          .end(JSON.stringify(answer));
      });
    });
    await new Promise<void>((resolve) => sts.listen(0, "127.0.0.1", resolve));
    closing({ close: () => new Promise<void>((resolve) => sts.close(() => resolve())) });
    const configuration = {
      type: "external_account",
      audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
      subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
      token_url: `http://127.0.0.1:${(sts.address() as AddressInfo).port}/v1/token`,
      credential_source: { file: join(directory, "proof") },
    };
    await writeFile(join(directory, "adc.json"), JSON.stringify(configuration));
    const settings = { gcp: { endpoint: store.url, keyFile: join(directory, "adc.json") } };
    const { secrets } = await openLab(settings);
    expect((await secrets.get(app)).current.value.reveal()).toBe("by-workload-identity");
    expect(seen[0]).toContain(encodeURIComponent(proof));
    isBroken = true;
    const { secrets: others, lines } = await openLab(settings);
    const error = await errorOf(others.get(app));
    expect(error.code).toBe("secret_forbidden");
    expect(`${error.message}${error.stack}${lines.join("")}`).not.toContain(proof);
  });
});

describe("AWS Secrets Manager", () => {
  const app = "awssm://prod/app";
  const keys = { accessKeyId: "TESTACCESSKEYID", secretAccessKey: "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY" };
  const credentialsOf = ({ accessKeyId, secretAccessKey }: typeof keys) => ({
    accessKeyId,
    secretAccessKey: new SecretValue(secretAccessKey),
  });

  async function openAws(credentials = keys) {
    const server = closing(await startAwsSecretsManager(keys));
    const aws = { endpoint: server.url, region: "eu-west-1", credentials: credentialsOf(credentials) };
    return { ...(await openLab({ aws })), server };
  }

  it("gives texts, bytes, a field of a JSON text, and the version before", async () => {
    const { server, secrets } = await openAws();
    server.put("prod/app", JSON.stringify({ private_key: "key-one", app_id: 7 }));
    server.put("prod/app", JSON.stringify({ private_key: "key-two", app_id: 7 }));
    server.put("raw", Buffer.from([0, 1, 2, 255]));
    const pair = await secrets.get(`${app}#private_key`, { previous: true });
    expect([pair.current.value.reveal(), pair.previous?.value.reveal()]).toEqual(["key-two", "key-one"]);
    expect((await secrets.get("awssm://raw")).current.value.revealBytes()).toEqual(
      Buffer.from([0, 1, 2, 255]),
    );
    expect(
      (await secrets.get(`awssm://${server.arnOf("prod/app")}#private_key`)).current.value.reveal(),
    ).toBe("key-two");
    expect((await secrets.get(`${app}?stage=AWSPREVIOUS#private_key`)).current.value.reveal()).toBe(
      "key-one",
    );
    expect(
      (await secrets.get(`${app}?version=${pair.previous?.version}#private_key`)).current.value.reveal(),
    ).toBe("key-one");
    expect((await errorOf(secrets.get(`${app}#app_id`))).message).toMatch(
      /no text of that name; there are "private_key, app_id"/,
    );
    expect((await errorOf(secrets.get("awssm://raw#x"))).message).toMatch(/not a JSON object/);
  });

  it("says what is wrong: not there, marked for deletion, not allowed, no such version", async () => {
    const { server, secrets } = await openAws();
    server.put("prod/app", "value-one");
    server.put("gone", "value-one");
    server.remove("gone");
    server.deny("prod/app");
    const cases: [string, string, RegExp][] = [
      ["awssm://none", "secret_invalid", /has no awssm:\/\/none \(404\)/],
      ["awssm://gone", "secret_invalid", /marked for deletion/],
      [app, "secret_forbidden", /it takes secretsmanager:GetSecretValue/],
      ["awssm://gone?version=12345678-1234-1234-1234-123456789012", "secret_invalid", /marked for deletion/],
    ];
    for (const [reference, code, message] of cases) {
      const error = await errorOf(secrets.get(reference));
      expect(error.code, error.message).toBe(code);
      expect(error.message).toMatch(message);
    }
  });

  it("waits out throttling, and gives up when it does not end", async () => {
    const { server, secrets } = await openAws();
    server.put("prod/app", "value-one");
    server.throttle(2);
    expect((await secrets.get(app)).current.value.reveal()).toBe("value-one");
    expect(server.requests.length).toBe(3);
    server.throttle(100);
    expect(await errorOf(secrets.refresh(app))).toMatchObject({
      code: "secret_unavailable",
      message: expect.stringMatching(/Throttling/),
    });
  });

  it("refuses a wrong key, an unknown one, and one that has run out, without naming it", async () => {
    const wrong = await openAws({ ...keys, secretAccessKey: "another-secret-access-key-0123456789" });
    wrong.server.put("prod/app", "value-one");
    const error = await errorOf(wrong.secrets.get(app));
    expect(error).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/InvalidSignature/),
    });
    expect(error.message).not.toContain("another-secret");
    const unknown = await openAws({ ...keys, accessKeyId: "OTHERACCESSKEYID" });
    expect((await errorOf(unknown.secrets.get(app))).code).toBe("secret_forbidden");
    const { server, secrets } = await openAws();
    server.put("prod/app", "value-one");
    server.expireCredentials();
    expect((await errorOf(secrets.get(app))).code).toBe("secret_unavailable");
    server.expireCredentials(false);
    expect((await secrets.refresh(app)).current.value.reveal()).toBe("value-one");
  });

  it("finds credentials where AWS's tools do, and anew when they were exchanged", async () => {
    const server = closing(await startAwsSecretsManager(keys));
    server.put("prod/app", "by-the-chain");
    const directory = await makeDirectory();
    const file = join(directory, "credentials");
    const write = (one: typeof keys): Promise<void> =>
      writeFile(
        file,
        `[default]\naws_access_key_id = ${one.accessKeyId}\naws_secret_access_key = ${one.secretAccessKey}\n`,
        { mode: 0o600 },
      );
    await write(keys);
    vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", file);
    vi.stubEnv("AWS_CONFIG_FILE", join(directory, "config"));
    vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
    const { secrets } = await openLab({ aws: { endpoint: server.url } });
    expect((await secrets.get(`${app}?region=eu-west-1`)).current.value.reveal()).toBe("by-the-chain");
    expect((await errorOf(secrets.get(app))).message).toMatch(/names no region/);
    await rm(file);
    const none = await openLab({ aws: { endpoint: server.url, region: "eu-west-1" } });
    vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", join(directory, "none"));
    expect(await errorOf(none.secrets.get(app))).toMatchObject({
      code: "secret_forbidden",
      message: expect.stringMatching(/no AWS credentials/),
    });
  });

  it("stays as it was put, whatever bytes it is", async () => {
    const { server, secrets } = await openAws();
    let number = 0;
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 2_000 }), async (bytes) => {
        number += 1;
        server.put(`any-${number}`, Buffer.from(bytes));
        expect((await secrets.get(`awssm://any-${number}`)).current.value.revealBytes()).toEqual(
          Buffer.from(bytes),
        );
      }),
      { numRuns: 50 },
    );
  });
});
