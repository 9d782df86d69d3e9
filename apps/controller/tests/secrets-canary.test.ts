import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";
import { createLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  type StoreFault,
  type StoreServer,
  startAwsSecretsManager,
  startGcpMetadata,
  startGcpSecretManager,
  startKubernetesApi,
  startVault,
} from "@mig/sandbox";
import { sql } from "kysely";
import { expect, it, onTestFinished, vi } from "vitest";
import { openSecrets } from "../src/secrets/open-secrets.ts";
import { SecretValue } from "../src/secrets/secret-value.ts";
import { openStore } from "../src/store/open-store.ts";
import { furnish } from "./pglite-template.ts";
import { closing, makeDirectory, makeRsaPem } from "./secrets-lab.ts";

/** A value that occurs nowhere else, with all that a secret may be written as by whoever leaks it. */
function makeCanary(name: string): { text: string; shapes: string[] } {
  const text = `canary-${name}-${randomBytes(12).toString("hex")}`;
  const bytes = Buffer.from(text);
  return {
    text,
    shapes: [
      text,
      bytes.toString("base64").replace(/=+$/, ""),
      bytes.toString("hex"),
      encodeURIComponent(text),
    ],
  };
}

/** Everything that a person, a log or a debugger could make of it. */
function printed(thing: unknown): string {
  const error = thing instanceof Error ? `${thing.message}\n${thing.stack}\n${String(thing.cause)}` : "";
  let json = "";
  try {
    json = JSON.stringify(thing, Object.getOwnPropertyNames(thing ?? {}));
  } catch {
    json = "circular";
  }
  return [error, json, String(thing), inspect(thing, { depth: 20, showHidden: true, getters: true })].join(
    "\n",
  );
}

it("nothing secret is in any log line, error, status or row after every store has given, failed and refused", async () => {
  const canaries = Object.fromEntries(
    [
      "aws",
      "awsOld",
      "gcp",
      "gcpOld",
      "vault",
      "vaultOld",
      "k8s",
      "file",
      "env",
      "db",
      "dbOld",
      "rejected",
      "awsKey",
      "awsSession",
      "k8sToken",
      "vaultJwt",
    ].map((name) => [name, makeCanary(name)]),
  );
  const textOf = (name: string): string => canaries[name]?.text ?? "";
  const directory = await makeDirectory();
  const write = (name: string, text: string): Promise<void> =>
    writeFile(join(directory, name), text, { mode: 0o600 });
  const master = [randomBytes(32).toString("hex"), randomBytes(32).toString("hex")];
  await write("master", master[0] ?? "");
  await write("file", textOf("file"));
  await write("token", textOf("k8sToken"));
  await write("jwt", textOf("vaultJwt"));

  const credentials = {
    accessKeyId: "TESTACCESSKEYID",
    secretAccessKey: textOf("awsKey"),
    sessionToken: textOf("awsSession"),
  };
  const aws = closing(await startAwsSecretsManager(credentials));
  aws.put("app", JSON.stringify({ key: textOf("awsOld") }));
  aws.put("app", JSON.stringify({ key: textOf("aws") }));
  aws.put("broken", `{"key": "${textOf("rejected")}"`);
  const gcp = closing(await startGcpSecretManager());
  gcp.put("acme", "app", textOf("gcpOld"));
  gcp.put("acme", "app", textOf("gcp"));
  const metadata = closing(await startGcpMetadata());
  const googleToken = gcp.giveToken();
  metadata.setFact(
    "service-accounts/default/token",
    JSON.stringify({ access_token: googleToken, expires_in: 3_599, token_type: "Bearer" }),
  );
  vi.stubEnv("GCE_METADATA_HOST", new URL(metadata.url).host);
  const vault = closing(
    await startVault({ roles: { mig: { jwt: textOf("vaultJwt"), ttlS: 60, maxTtlS: 600 } } }),
  );
  vault.put("app", { key: textOf("vaultOld") });
  vault.put("app", { key: textOf("vault"), other: textOf("rejected") });
  const pem = makeRsaPem();
  vault.importKey("app", pem);
  const kubernetes = closing(await startKubernetesApi({ token: textOf("k8sToken") }));
  kubernetes.put("mig", "app", { key: textOf("k8s") });
  await furnish(directory);
  const store = await openStore({ dataDir: directory });
  onTestFinished(async () => store[Symbol.asyncDispose]());

  const seen: string[] = [];
  const secrets = await openSecrets({
    log: createLog({ level: "debug", write: (line) => void seen.push(line) }),
    onAlarm: (alarm) => void seen.push(printed(alarm)),
    random: () => 0,
    rules: { refreshGapMs: 0, fetchMs: 10_000 },
    aws: {
      endpoint: aws.url,
      region: "eu-west-1",
      timeoutMs: 300,
      credentials: {
        accessKeyId: credentials.accessKeyId,
        secretAccessKey: new SecretValue(credentials.secretAccessKey),
        sessionToken: new SecretValue(credentials.sessionToken),
      },
    },
    gcp: { endpoint: gcp.url, timeoutMs: 300 },
    vault: {
      address: vault.url,
      timeoutMs: 300,
      login: { method: "kubernetes", role: "mig", jwt: `file://${directory}/jwt` },
    },
    kubernetes: {
      api: kubernetes.url,
      tokenFile: join(directory, "token"),
      caFile: join(directory, "none"),
      timeoutMs: 300,
    },
    env: { isAllowed: true, values: { APP: textOf("env") } },
    db: { store, masterKey: `file://${directory}/master` },
  });
  onTestFinished(() => secrets.close());
  for (const name of ["dbOld", "db"])
    await store.transact(async (tx) => secrets.db?.put(tx, "app", new SecretValue(textOf(name))));

  const references = [
    "awssm://app#key",
    "gcpsm://projects/acme/secrets/app",
    "vault://secret/app#key",
    "k8s://mig/app#key",
    `file://${directory}/file`,
    "env://APP",
    "db://app",
  ];
  const expected = ["aws", "gcp", "vault", "k8s", "file", "env", "db"].map(textOf);
  const look = async (work: Promise<unknown>): Promise<void> => {
    try {
      seen.push(printed(await work));
    } catch (error) {
      expect(error).toBeInstanceOf(MigError);
      seen.push(printed(error));
    }
  };
  for (const [index, reference] of references.entries()) {
    const pair = await secrets.get(reference, { previous: true });
    expect(pair.current.value.reveal()).toBe(expected[index]);
    seen.push(printed(pair), `${pair.current.value}`, JSON.stringify(pair), printed(structuredClone(pair)));
  }

  const servers: StoreServer[] = [aws, gcp, vault, kubernetes];
  const echo = { kind: "status", echo: true } as const;
  const faults: StoreFault[] = [
    ...[400, 401, 403, 404, 429, 500].map((status) => ({ ...echo, status })),
    { kind: "garbage" },
    { kind: "cut" },
    { kind: "hang" },
    {
      kind: "status",
      status: 200,
      body: `{"SecretString": "${textOf("aws")}", "data": {"data": {"key": 1}, "metadata": `,
    },
    { kind: "status", status: 302, headers: { location: `http://127.0.0.1:9/?token=${textOf("k8sToken")}` } },
  ];
  for (const fault of faults) {
    for (const server of servers) server.fail(fault);
    await Promise.all(references.map((reference) => look(secrets.refresh(reference))));
  }
  for (const server of servers) server.mend();
  const strict = (value: SecretValue): void => void JSON.parse(value.reveal());
  for (const reference of references) await look(secrets.get(reference, { validate: strict }));
  for (const wrong of [
    "awssm://broken#key",
    "awssm://app#none",
    "vault://secret/app#none",
    "k8s://mig/app#none",
    "vault-transit://transit/app",
    textOf("rejected"),
    `env://${textOf("env")}`,
  ])
    await look(secrets.get(wrong));
  const [signer] = await secrets.signers("vault-transit://transit/app");
  seen.push(printed(signer), printed(await signer?.sign("RS256", Buffer.from("x"))));
  await write("master", `${master[1]}\n${master[0]}`);
  await look(secrets.refresh(`file://${directory}/master`));
  await look(secrets.rewrap());
  await write("master", `${master[1]}\n${master[0]}x`);
  await look(secrets.refresh(`file://${directory}/master`));
  seen.push(printed(secrets), printed(secrets.status()), printed(secrets.sealer));
  const { rows } = await store.transact((tx) => sql`select * from secrets`.execute(tx));
  seen.push(printed(rows));
  await secrets.close();
  seen.push(printed(secrets));

  const everything = seen.join("\n");
  expect(everything.length).toBeGreaterThan(50_000);
  expect(rows.length).toBe(2);
  for (const { shapes } of Object.values(canaries))
    for (const shape of shapes) expect(everything).not.toContain(shape);
  for (const key of master) expect(everything).not.toContain(key.slice(0, 24));
  for (const line of pem.split("\n").filter((one) => one.length > 40)) expect(everything).not.toContain(line);
  expect(everything).not.toContain(googleToken.slice(0, 24));
  expect(everything).not.toMatch(/hvs\.[A-Za-z0-9_-]{8}/);
}, 60_000);
