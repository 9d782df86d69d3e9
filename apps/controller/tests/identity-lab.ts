import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAppKey } from "@mig/sandbox";
import { calculateJwkThumbprint, SignJWT } from "jose";
import type { IdentityTimes } from "../src/controller/open-identity.ts";
import { joinChallenge } from "../src/join/join-challenge.ts";
import { startController, type TestController } from "./directory-lab.ts";
import { call, type Reply } from "./open-test-listeners.ts";

/** A machine that wants to join: a key of its own, and what it says with it. */
export class Machine {
  readonly vmId: string;
  readonly #url: string;
  #key: KeyObject;
  #jwk: object;

  constructor(url: string, vmId: string) {
    this.#url = url;
    this.vmId = vmId;
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#key = privateKey;
    this.#jwk = publicKey.export({ format: "jwk" });
  }

  async nonce(): Promise<string> {
    return (await call(`${this.#url}/api/v1/join/nonce`, { method: "POST" })).body.nonce;
  }

  prove(nonce: string, vmId = this.vmId): Promise<string> {
    return new SignJWT({ nonce, vm_id: vmId })
      .setProtectedHeader({ alg: "ES256", typ: "mig-proof+jwt", jwk: this.#jwk })
      .sign(this.#key);
  }

  async join(token: string, more: object = {}): Promise<Reply> {
    const nonce = await this.nonce();
    const json = {
      method: "token",
      nonce,
      key_proof: await this.prove(nonce),
      vm_id: this.vmId,
      token,
      ...more,
    };
    return call(`${this.#url}/api/v1/join`, { json });
  }

  /** With what a cloud signs over the challenge of this join. */
  async joinBy(show: (challenge: string) => object | Promise<object>): Promise<Reply> {
    const nonce = await this.nonce();
    const thumbprint = await calculateJwkThumbprint(this.#jwk);
    const shown = await show(joinChallenge(nonce, thumbprint));
    const json = { nonce, key_proof: await this.prove(nonce), vm_id: this.vmId, ...shown };
    return call(`${this.#url}/api/v1/join`, { json });
  }

  async renew(vmId = this.vmId): Promise<Reply> {
    const nonce = await this.nonce();
    const json = { nonce, key_proof: await this.prove(nonce, vmId) };
    return call(`${this.#url}/api/v1/vms/${vmId}/token`, { json });
  }
}

export interface IdentityLab {
  controllers: readonly TestController[];
  url: string;
  /** With the first key, or another. */
  api(method: string, path: string, json?: unknown, key?: string): Promise<Reply>;
  /** A new enrolment token. */
  joinToken(body?: object): Promise<string>;
  /** A new API key. */
  key(body: object): Promise<string>;
  machine(vmId: string): Machine;
}

/** Controllers in normal mode that nobody knows yet, but for the key that the first start showed. */
export async function openIdentityLab(
  options: {
    databaseUrl?: string;
    replicas?: number;
    flags?: string[];
    /** Of pool-a: which machines join by what their cloud says. */
    policy?: object;
    /** More for the YAML file. */
    yaml?: object;
    atEnd?: (stop: () => Promise<void>) => void;
    times?: IdentityTimes;
  } = {},
): Promise<IdentityLab> {
  const { replicas = 1, policy, yaml: more = {}, ...rest } = options;
  const yaml = {
    github: { app_id: 7, private_key_file: writeAppKey() },
    orgs: [
      { id: "acme", github: "https://github.com/acme" },
      { id: "other", github: "https://github.com/other" },
    ],
    pools: [
      {
        ...{ id: "pool-a", org_id: "acme", runner_url: "https://github.com/acme" },
        ...(policy === undefined ? {} : { join: policy }),
      },
      { id: "pool-b", org_id: "other", runner_url: "https://github.com/other" },
    ],
    ...more,
  };
  const controllers: TestController[] = [];
  for (let n = 0; n < replicas; n += 1) controllers.push(await startController(yaml, { flags: [], ...rest }));
  const [first] = controllers;
  if (first === undefined) throw new Error("no controller");
  const firstKey = /mgk_\w+/.exec(controllers.map(({ told }) => told.join("")).join(""))?.[0] ?? "";
  const api: IdentityLab["api"] = (method, path, json, key = firstKey) =>
    call(`${first.url}/api/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${key}` },
      ...(json === undefined ? {} : { json }),
    });
  return {
    controllers,
    url: first.url,
    api,
    joinToken: async (body = {}) =>
      (await api("POST", "join-tokens", { pool_id: "pool-a", ...body })).body.token,
    key: async (body) => (await api("POST", "api-keys", { name: "test", ...body })).body.key,
    machine: (vmId) => new Machine(first.url, vmId),
  };
}

function writeAppKey(): string {
  const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "mig-identity-"));
  const path = join(dir, "app.pem");
  writeFileSync(path, createAppKey().privateKeyPem, { mode: 0o600 });
  return path;
}
