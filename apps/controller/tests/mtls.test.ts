import { mkdtemp, mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import { createAppKey, createTestCa, type TestCa, type TestCertificate } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openIdentity } from "../../miglet/src/boot/identity/open-identity.ts";
import { createMtlsProver } from "../src/join/mtls-prover.ts";
import { startController } from "./directory-lab.ts";
import { Machine } from "./identity-lab.ts";

/** Machines that join with a client certificate, over real TLS connections. */
interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: as Reply of open-test-listeners
  body: any;
}
let ca: TestCa;
let port = 0;
const stops: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), "mig-mtls-"));
  stops.push(() => rm(dir, { recursive: true, force: true }));
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(dir, name), text, { mode: 0o600 });
    return join(dir, name);
  };
  ca = await createTestCa();
  const server = await ca.issue({ hosts: ["localhost", "127.0.0.1"] });
  const { url } = await startController(
    {
      tls: {
        cert_file: await file("tls.crt", server.certPem),
        key_file: await file("tls.key", server.keyPem),
        client_ca_file: await file("ca.pem", ca.caPem),
      },
      github: { app_id: 7, private_key_file: await file("app.pem", createAppKey().privateKeyPem) },
      orgs: ["acme", "other"].map((id) => ({ id, github: `https://github.com/${id}` })),
      pools: [
        { id: "pool-a", org_id: "acme", runner_url: "https://github.com/acme" },
        {
          ...{ id: "pool-b", org_id: "other", runner_url: "https://github.com/other" },
          join: { mtls: { dns: ["runner-*"], uris: ["spiffe://corp/runners/*"], subjects: ["CN=named"] } },
        },
      ],
    },
    { flags: [], atEnd: (stop) => void stops.unshift(stop) },
  );
  port = Number(new URL(url).port);
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

function post(path: string, json: object, options: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const payload = JSON.stringify(json);
    const headers = { "content-type": "application/json", "content-length": payload.length };
    const asked = request(
      {
        ...{ host: "localhost", family: 4, port, path, method: "POST", headers, ca: ca.caPem },
        ...{ agent: new Agent(), ...options },
      },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (part: string) => {
          text += part;
        });
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text) }));
      },
    );
    asked.on("error", reject);
    asked.end(payload);
  });
}

async function joinAs(
  vmId: string,
  certificate: TestCertificate | undefined,
  more: object = {},
  machine = new Machine("", vmId),
): Promise<Answer> {
  const shown = certificate === undefined ? {} : { cert: certificate.certPem, key: certificate.keyPem };
  const { nonce } = (await post("/api/v1/join/nonce", {}, {})).body;
  const json = { method: "mtls", nonce, key_proof: await machine.prove(nonce), vm_id: vmId, ...more };
  return post("/api/v1/join", json, shown);
}

const spiffe = (path: string, domain = "mig"): Promise<TestCertificate> =>
  ca.issue({ hosts: [], uris: [`spiffe://${domain}/${path}`] });

describe("a SPIFFE id in the client certificate", () => {
  it("says which VM of which pool and organization this is", async () => {
    const certificate = await spiffe("org/acme/pool/pool-a/vm/vm-1");
    const machine = new Machine("", "vm-1");
    const joined = await joinAs("vm-1", certificate, {}, machine);
    expect(joined).toMatchObject({ status: 200, body: { vm_id: "vm-1", pool_id: "pool-a", org_id: "acme" } });
    const beat = await post(
      "/api/v1/vms/vm-1/heartbeat",
      {},
      {
        headers: { authorization: `Bearer ${joined.body.access_token}`, "content-type": "application/json" },
      },
    );
    expect(beat.status).toBe(200);
    expect((await joinAs("vm-1", certificate, {}, machine)).status).toBe(200);
    // Another key with the same certificate: somebody copied it.
    expect((await joinAs("vm-1", certificate)).body.error.code).toBe("conflict");
  });

  it.each([
    ["another VM", "org/acme/pool/pool-a/vm/vm-3", {}, "is of vm-3"],
    ["another pool", "org/acme/pool/pool-a/vm/vm-2", { pool_id: "pool-b" }, "for the pool pool-a"],
    ["another organization", "org/other/pool/pool-a/vm/vm-2", {}, "not of the organization other"],
    ["a pool that is not there", "org/acme/pool/nowhere/vm/vm-2", {}, "no pool nowhere"],
    ["more after the VM", "org/acme/pool/pool-a/vm/vm-2/x", {}, "is not spiffe://mig/org/"],
    ["an escape", "org/acme/pool/pool-a/vm/vm%2d2", {}, "is not spiffe://mig/org/"],
  ])("of %s is refused", async (_, path, more, why) => {
    const { status, body } = await joinAs("vm-2", await spiffe(path), more);
    expect([status, body.error.code]).toEqual([403, "forbidden"]);
    expect(body.error.message).toContain(why);
  });

  it("of another trust domain is refused, and so are two of them", async () => {
    const path = "org/acme/pool/pool-a/vm/vm-2";
    expect((await joinAs("vm-2", await spiffe(path, "evil"))).body.error.message).toContain(
      "join.trust_domain",
    );
    const two = await ca.issue({ hosts: [], uris: [`spiffe://mig/${path}`, "spiffe://mig/other"] });
    expect((await joinAs("vm-2", two)).body.error.message).toContain("more than one SPIFFE id");
  });
});

describe("the join policy of a pool", () => {
  it.each([
    ["a DNS name's first label", "runner-7", { hosts: ["runner-7.example.com"] }],
    ["a URI's last part", "vm-9", { hosts: [], uris: ["spiffe://corp/runners/vm-9"] }],
    ["a subject's common name", "named", { hosts: [], commonName: "named" }],
  ])("takes %s for the VM", async (_, vmId, names) => {
    const joined = await joinAs(vmId, await ca.issue(names));
    expect(joined).toMatchObject({ status: 200, body: { pool_id: "pool-b", org_id: "other" } });
  });

  it("takes no name that it does not list, and none as another VM", async () => {
    const runner = await ca.issue({ hosts: ["runner-8.example.com", "vm-2"], commonName: "vm-2" });
    expect((await joinAs("vm-2", runner)).status).toBe(403);
    expect((await joinAs("runner-8", runner, { pool_id: "pool-a" })).status).toBe(403);
    const named = await joinAs("vm-2", runner, { pool_id: "pool-b" });
    expect(named.body.error.message).toContain("not as vm-2");
    expect((await joinAs("vm-2", await ca.issue({ hosts: ["my-runner-8"] }))).status).toBe(403);
  });

  it("lets one key of a certificate be one VM", async () => {
    const two = await ca.issue({ hosts: ["runner-20", "runner-21"] });
    expect((await joinAs("runner-20", two)).status).toBe(200);
    expect((await joinAs("runner-21", two)).body.error.message).toContain("is no second VM");
  });
});

it("an agent joins with the certificate of controller.tls.cert_path", async () => {
  const certificate = await spiffe("org/acme/pool/pool-a/vm/vm-agent");
  await using dir = await mkdtempDisposable(join(tmpdir(), "mig-mtls-agent-"));
  const identity = await openIdentity({
    settings: {
      ...{ vm_id: "vm-agent", state_dir: dir.path, "join.method": "mtls" },
      ...{ "controller.endpoint": `https://localhost:${port}`, "controller.timeout": 5_000 },
      ...{ "controller.retry.initial_backoff": 100, "controller.retry.max_backoff": 100 },
    },
    tls: async () => ({ ca: ca.caPem, cert: certificate.certPem, key: certificate.keyPem }),
    log: silentLog,
  });
  try {
    expect(await identity.bearer()).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/);
    expect([identity.poolId(), identity.orgId()]).toEqual(["pool-a", "acme"]);
  } finally {
    identity.close();
  }
});

it("without a certificate nobody joins so, whatever a header says", async () => {
  expect((await joinAs("vm-2", undefined)).body.error).toMatchObject({
    code: "unauthenticated",
    message: expect.stringContaining("tls.client_ca_file"),
  });
});

it("a certificate that has expired, or of another authority, does not get a connection", async () => {
  const names = { hosts: [], uris: ["spiffe://mig/org/acme/pool/pool-a/vm/vm-2"] };
  const expired = await ca.issue({ ...names, notBefore: new Date(Date.now() - 3 * 86_400_000) });
  const foreign = await (await createTestCa("somebody else")).issue(names);
  await expect(joinAs("vm-2", expired)).rejects.toThrow();
  await expect(joinAs("vm-2", foreign)).rejects.toThrow();
});

it("one that expires while its connection is open proves nothing any more", async () => {
  const prover = createMtlsProver({ trustDomain: "mig", pools: () => [], nowMs: () => 2_000 });
  const certificate = {
    ...{ subject: "", commonName: undefined, dns: [], uris: ["spiffe://mig/org/a/pool/b/vm/c"] },
    ...{ keyDigest: "00", notBeforeMs: 0, notAfterMs: 2_000 },
  };
  const about = { key: { thumbprint: "", publicJwk: {} }, address: undefined, certificate, orgIs() {} };
  const asked = { method: "mtls", nonce: "", keyProof: "", vmId: "c" };
  await expect(prover.verify(asked, about)).rejects.toThrow("has expired");
});
