import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dial } from "./dial.ts";
import { type IdentityLab, Machine, openIdentityLab } from "./identity-lab.ts";
import { call } from "./open-test-listeners.ts";

let lab: IdentityLab;
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

const beat = (vmId: string, token: string, json: object = {}) =>
  call(`${lab.url}/api/v1/vms/${vmId}/heartbeat`, { json, headers: { authorization: `Bearer ${token}` } });

describe("joining with an enrolment token", () => {
  it("gives a token that speaks for this VM and for no other", async () => {
    const joined = await lab.machine("vm-1").join(await lab.joinToken());
    expect(joined.status).toBe(200);
    expect(joined.body).toMatchObject({ vm_id: "vm-1", pool_id: "pool-a", org_id: "acme", expires_in: 900 });
    expect((await beat("vm-1", joined.body.access_token)).status).toBe(200);
    expect((await beat("vm-2", joined.body.access_token)).status).toBe(403);
    expect((await lab.api("GET", "vms", undefined, joined.body.access_token)).status).toBe(403);
  });

  it("an agent that says it is of another pool or organization is refused", async () => {
    const { access_token: token } = (await lab.machine("vm-own").join(await lab.joinToken())).body;
    expect((await beat("vm-own", token, { pool_id: "pool-b" })).body.error.code).toBe("vm_mismatch");
    expect((await beat("vm-own", token, { org_id: "other" })).body.error.code).toBe("vm_mismatch");
    expect((await beat("vm-own", token, { pool_id: "pool-a", org_id: "acme" })).status).toBe(200);
  });

  it("asks again after a lost answer and is answered again, without a second use", async () => {
    const token = await lab.joinToken();
    const machine = lab.machine("vm-again");
    expect((await machine.join(token)).status).toBe(200);
    expect((await machine.join(token)).status).toBe(200);
    expect((await lab.machine("vm-late").join(token)).status).toBe(403);
  });

  it("is refused with another VM's name, another network, a token that is over, and one that is none", async () => {
    expect((await lab.machine("vm-x").join(await lab.joinToken({ vm_id: "vm-y" }))).status).toBe(403);
    expect((await lab.machine("vm-x").join(await lab.joinToken({ cidr: "10.0.0.0/8" }))).status).toBe(403);
    expect((await lab.machine("vm-cidr").join(await lab.joinToken({ cidr: "127.0.0.0/8" }))).status).toBe(
      200,
    );
    const soon = await lab.joinToken({ expires_in: "1ms" });
    expect((await lab.machine("vm-x").join(soon)).status).toBe(403);
    expect((await lab.machine("vm-x").join(`mgj_${"0".repeat(12)}_${"0".repeat(32)}`)).status).toBe(401);
    expect((await lab.machine("vm-x").join("x")).status).toBe(401);
    const revoked = await lab.joinToken();
    await lab.api("DELETE", `join-tokens/${revoked.slice(0, 16)}`);
    expect((await lab.machine("vm-x").join(revoked)).status).toBe(403);
  });

  it("a second key for a VM that has joined is refused, and the operator sees both", async () => {
    const token = await lab.joinToken({ uses_max: 5 });
    expect((await lab.machine("vm-theft").join(token)).status).toBe(200);
    const theft = await lab.machine("vm-theft").join(token);
    expect([theft.status, theft.body.error.code]).toEqual([409, "conflict"]);
    const { entries } = (await lab.api("GET", "audit?object=vm:vm-theft")).body;
    expect(entries.map((entry: { result: string }) => entry.result)).toEqual(["refused", "done"]);
    expect(entries[0].details.key).not.toBe(entries[1].details.key);
  });

  it("a nonce is good once, for one VM, and only if it is ours", async () => {
    const token = await lab.joinToken({ uses_max: 5 });
    const machine = lab.machine("vm-nonce");
    const nonce = await machine.nonce();
    const proof = { nonce, key_proof: await machine.prove(nonce) };
    expect((await machine.join(token, proof)).status).toBe(200);
    expect((await machine.join(token, proof)).body.error.message).toContain("used before");
    const other = await machine.nonce();
    const forOther = { nonce: other, key_proof: await machine.prove(other, "vm-other") };
    expect((await machine.join(token, forOther)).status).toBe(401);
    const forged = `${other.slice(0, -4)}AAAA`;
    expect(
      (await machine.join(token, { nonce: forged, key_proof: await machine.prove(forged) })).status,
    ).toBe(401);
    const { access_token: accessToken } = (await machine.join(token)).body;
    const asNonce = { nonce: accessToken, key_proof: await machine.prove(accessToken) };
    expect((await machine.join(token, asNonce)).status).toBe(401);
  });

  it("renews with proof of the key and with nothing else", async () => {
    const machine = lab.machine("vm-renew");
    await machine.join(await lab.joinToken());
    const renewed = await machine.renew();
    expect(renewed.status).toBe(200);
    expect((await beat("vm-renew", renewed.body.access_token)).status).toBe(200);
    expect((await lab.machine("vm-renew").renew()).status).toBe(403);
    expect((await lab.machine("vm-never").renew()).status).toBe(401);
  });
});

it("a revoked VM is cut off within two seconds, also on an open stream", async () => {
  const machine = lab.machine("vm-gone");
  const enrolment = await lab.joinToken({ uses_max: 9 });
  const { access_token: token } = (await machine.join(enrolment)).body;
  await using stream = dial(Number(new URL(lab.url).port), { authorization: `Bearer ${token}` });
  stream.connect("vm-gone", { poolId: "pool-a" });
  expect(await stream.next("connect_ack")).toMatchObject({ reply: { accepted: true } });
  const beganMs = performance.now();
  expect((await lab.api("DELETE", "vms/vm-gone/identity")).status).toBe(204);
  expect(await stream.next("go_away")).toMatchObject({ goAway: { reason: "identity_revoked" } });
  await stream.ended;
  expect(performance.now() - beganMs).toBeLessThan(2_000);
  expect((await beat("vm-gone", token)).status).toBe(401);
  expect((await machine.renew()).status).toBe(403);
  // The way back is an operator's new enrolment token, and not what is left of the old one.
  expect((await machine.join(enrolment)).status).toBe(403);
  expect((await lab.machine("vm-gone").join(enrolment)).status).toBe(403);
  expect((await machine.join(await lab.joinToken())).status).toBe(200);
});

it("a stream that never said connect is not listened to after its VM was revoked, either", async () => {
  const machine = lab.machine("vm-mute");
  const { access_token: token } = (await machine.join(await lab.joinToken())).body;
  await using stream = dial(Number(new URL(lab.url).port), { authorization: `Bearer ${token}` });
  stream.beat("vm-mute", { poolId: "pool-a", migletState: "initializing" });
  const stateOf = async () => (await lab.api("GET", "vms/vm-mute")).body.miglet_state;
  await waitFor("the first beat", async () => (await stateOf()) === "initializing");
  await lab.api("DELETE", "vms/vm-mute/identity");
  stream.beat("vm-mute", { poolId: "pool-a", migletState: "draining" });
  expect((await stream.next("connect_ack")).reply.accepted).toBe(false);
  expect(await stateOf()).toBe("initializing");
});

describe("API keys", () => {
  it("only their hash is kept; the list shows no key", async () => {
    const key = await lab.key({ role: "viewer" });
    const list = JSON.stringify((await lab.api("GET", "api-keys")).body);
    expect(list).toContain(key.slice(0, 16));
    expect(list).not.toContain(key.slice(17));
  });

  it.each([
    ["viewer", 200, 403, 403, 403],
    ["operator", 200, 201, 403, 403],
    ["admin", 200, 201, 201, 200],
  ])(
    "a %s reads %i, orders %i, makes keys %i, reads the audit log %i",
    async (role, read, order, keys, log) => {
      const key = await lab.key({ role });
      expect((await lab.api("GET", "vms", undefined, key)).status).toBe(read);
      expect((await lab.api("POST", "join-tokens", { pool_id: "pool-a" }, key)).status).toBe(order);
      expect((await lab.api("POST", "api-keys", { name: "x", role: "viewer" }, key)).status).toBe(keys);
      expect((await lab.api("GET", "audit", undefined, key)).status).toBe(log);
      expect((await beat("vm-1", key)).status).toBe(403);
    },
  );

  it("a key of one organization sees nothing of another, in lists, by name, and in what it makes", async () => {
    const a = await lab.machine("vm-acme").join(await lab.joinToken());
    const b = await new Machine(lab.url, "vm-other").join(await lab.joinToken({ pool_id: "pool-b" }));
    await beat("vm-acme", a.body.access_token);
    await beat("vm-other", b.body.access_token);
    const key = await lab.key({ role: "admin", orgs: ["acme"] });
    const get = async (path: string) => lab.api("GET", path, undefined, key);
    await waitFor("both VMs to be known", async () => {
      const { vms } = (await lab.api("GET", "vms")).body;
      return ["vm-acme", "vm-other"].every((id) => vms.some((vm: { vm_id: string }) => vm.vm_id === id));
    });
    for (const path of [
      "vms",
      "vms?org_id=other",
      "pools",
      "orgs",
      "join-tokens",
      "api-keys",
      "audit",
      "runners",
    ])
      expect(JSON.stringify((await get(path)).body), path).not.toMatch(/"(other|vm-other|pool-b)"/);
    expect((await get("vms/vm-acme")).status).toBe(200);
    for (const path of ["vms/vm-other", "pools/pool-b", "orgs/other", "audit?org_id=other", "audit/verify"])
      expect((await get(path)).status, path).toBe(404);
    expect((await get("github-apps")).status).toBe(403);
    const post = (path: string, json: object) => lab.api("POST", path, json, key);
    expect((await post("vms/vm-other/commands", { type: "drain" })).status).toBe(404);
    expect(
      (await post("vms/vm-acme/commands", { type: "set_log_level", parameters: { level: "info" } })).status,
    ).toBe(201);
    expect((await post("join-tokens", { pool_id: "pool-b" })).status).toBe(404);
    expect((await post("pools", { id: "pool-c", org_id: "other" })).status).toBe(404);
    expect((await post("api-keys", { name: "more", role: "admin" })).status).toBe(404);
    expect((await post("api-keys", { name: "more", role: "admin", orgs: ["other"] })).status).toBe(404);
    expect((await post("api-keys", { name: "same", role: "viewer", orgs: ["acme"] })).status).toBe(201);
    expect((await lab.api("DELETE", "vms/vm-other/identity", undefined, key)).status).toBe(404);
  });

  it("revoked or expired, it is good for nothing", async () => {
    const key = await lab.key({ role: "viewer" });
    expect((await lab.api("GET", "vms", undefined, key)).status).toBe(200);
    await lab.api("DELETE", `api-keys/${key.slice(0, 16)}`);
    expect((await lab.api("GET", "vms", undefined, key)).status).toBe(401);
    const short = await lab.key({ role: "viewer", expires_in: "1ms" });
    expect((await lab.api("GET", "vms", undefined, short)).status).toBe(401);
  });
});

it("the audit log tells who did it, is whole, and cannot be changed", async () => {
  const key = await lab.key({ role: "operator" });
  await lab.api("POST", "join-tokens", { pool_id: "pool-a", vm_id: "vm-audit" }, key);
  const { entries } = (await lab.api("GET", "audit?action=join_token.create&limit=1")).body;
  expect(entries[0]).toMatchObject({ org_id: "acme", result: "done", address: "127.0.0.1" });
  expect(entries[0].actor).toContain(key.slice(0, 16));
  for (const path of ["audit/verify", "audit/verify?org_id=acme"])
    expect((await lab.api("GET", path)).body).toMatchObject({ ok: true, problem: null });
  const pages: number[] = [];
  let cursor = "";
  do {
    const page = (await lab.api("GET", `audit?limit=3${cursor}`)).body;
    pages.push(...page.entries.map((entry: { at: string }) => Date.parse(entry.at)));
    cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
  } while (cursor !== "");
  expect(pages).toEqual(pages.toSorted((a, b) => b - a));
  expect(pages.length).toBeGreaterThan(10);
});

it("published keys verify what they signed", async () => {
  const { keys } = (await call(`${lab.url}/.well-known/jwks.json`)).body;
  expect(keys).toHaveLength(1);
  expect(Object.keys(keys[0]).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x", "y"]);
});
