import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { silentLog, waitFor } from "@mig/kit";
import { writeContentDigest } from "@mig/protocol";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDiagnosticsDesk } from "../src/diagnostics/diagnostics-desk.ts";
import { tidyDiagnostics } from "../src/diagnostics/tidy-diagnostics.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines } from "./engines.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { openTestDesk, type TestDesk } from "./open-test-desk.ts";
import { call, type Reply } from "./open-test-listeners.ts";

const bundleOf = (content: Buffer) => ({
  content,
  sha256: createHash("sha256").update(content).digest("hex"),
});
const someBundle = () => bundleOf(gzipSync(randomBytes(64)));
const origin = { actor: "key:test", requestId: "r-1", address: "127.0.0.1" };

describeOnEngines("bundles of diagnostics", (engine) => {
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  let real: TestDesk;
  const open = async (): Promise<void> => {
    store = await database.open();
    real = openTestDesk(store);
  };
  const close = async (): Promise<void> => {
    await real[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  };
  beforeAll(async () => {
    database = await engine.create();
    await open();
  });
  afterAll(async () => {
    await close();
    await database.drop();
  });

  const order = async (vmId: string, type = "collect_diagnostics"): Promise<string> =>
    (await real.desk.queueCommand(vmId, { type, parameters: {}, by: "test" })).id;
  const end = (vmId: string, commandId: string, success = true) =>
    real.desk.answer(
      vmId,
      { commandId, stage: "result", success, result: { files: ["manifest.json"] } },
      false,
    );

  it("keeps what a VM was asked for, once, and nothing else", async () => {
    const desk = createDiagnosticsDesk(store);
    const commandId = await order("vm-1");
    const bundle = someBundle();
    await desk.keep({ vmId: "vm-1", commandId, ...bundle });
    await desk.keep({ vmId: "vm-1", commandId, ...bundle });
    const keep = (vmId: string, id: string, what = someBundle()) =>
      expect(desk.keep({ vmId, commandId: id, ...what })).rejects;
    await keep("vm-1", commandId).toMatchObject({ code: "conflict" });
    await keep("vm-2", commandId).toMatchObject({ code: "not_found" });
    await keep("vm-1", await order("vm-1", "drain")).toMatchObject({ code: "not_found" });
    await keep("vm-1", "no-such-command").toMatchObject({ code: "not_found" });
    await end("vm-1", commandId);
    // The answer to an upload may be lost, and its command be over, when it comes again.
    await desk.keep({ vmId: "vm-1", commandId, ...bundle });
    const late = await order("vm-1");
    await end("vm-1", late, false);
    await keep("vm-1", late).toMatchObject({ code: "conflict", message: expect.stringContaining("failed") });
    expect(await desk.list("vm-1")).toEqual([
      {
        ...{ commandId, vmId: "vm-1", bytes: bundle.content.length, sha256: bundle.sha256 },
        ...{ commandState: "succeeded", result: { files: ["manifest.json"] } },
        receivedAtMs: expect.any(Number),
      },
    ]);
    const about = { vmId: "vm-1", orgId: "o", commandId };
    expect((await desk.fetch(about, origin)).content).toEqual(bundle.content);
    await expect(desk.fetch({ ...about, vmId: "vm-2" }, origin)).rejects.toMatchObject({ code: "not_found" });
  });

  it("has it also after a restart between the upload and the result", async () => {
    const commandId = await order("vm-restart");
    const bundle = someBundle();
    await createDiagnosticsDesk(store).keep({ vmId: "vm-restart", commandId, ...bundle });
    await close();
    await open();
    const desk = createDiagnosticsDesk(store);
    await desk.keep({ vmId: "vm-restart", commandId, ...bundle });
    expect((await end("vm-restart", commandId)).state).toBe("succeeded");
    expect(await desk.list("vm-restart")).toHaveLength(1);
  });

  // PGlite takes one transaction after the other.
  if (engine.name !== "PGlite")
    it("waits for a unit of work on its VM, and holds none up", async () => {
      const commandId = await order("vm-held");
      let kept: Promise<void> | undefined;
      await store.transact(async (tx) => {
        await sql`select 1 from vms where vm_id = 'vm-held' for update`.execute(tx);
        kept = createDiagnosticsDesk(store).keep({ vmId: "vm-held", commandId, ...someBundle() });
        await waitFor("the upload to wait", async () => {
          const waiting = await sql`select 1 from pg_locks l join pg_stat_activity a using (pid)
          where not l.granted and a.datname = current_database()`.execute(tx);
          return waiting.rows.length > 0;
        });
        // With the locks taken the other way round, this and the upload wait for each other: one is ended by the server.
        await sql`update commands set message = 'held' where id = ${commandId}`.execute(tx);
      });
      await kept;
      expect(await createDiagnosticsDesk(store).list("vm-held")).toHaveLength(1);
    });

  it("keeps five of a VM for seven days, and none of a VM that is gone", async () => {
    const desk = createDiagnosticsDesk(store);
    const ids: string[] = [];
    for (let n = 0; n < 7; n += 1) {
      ids.push(await order("vm-many"));
      await desk.keep({ vmId: "vm-many", commandId: ids[n] ?? "", ...someBundle() });
    }
    const kept = async (vmId: string) => (await desk.list(vmId)).map(({ commandId }) => commandId);
    expect(await kept("vm-many")).toEqual(ids.slice(2).reverse());
    const [older, old] = [ids[2], ids[3]];
    await store.transact((tx) =>
      sql`update diagnostics set received_at = now() - case when command_id = ${older} then interval '169 hours'
        else interval '167 hours' end where command_id in (${older}, ${old})`.execute(tx),
    );
    const ending = new AbortController();
    const tidying = tidyDiagnostics({ store, log: silentLog, signal: ending.signal, everyMs: 10 });
    await waitFor("the old one to go", async () => (await kept("vm-many")).length === 4);
    ending.abort();
    await tidying;
    expect(await kept("vm-many")).toEqual([ids[6], ids[5], ids[4], old]);
    await store.transact(async (tx) => {
      await sql`delete from commands where vm_id = 'vm-many'`.execute(tx);
      const { rows } = await sql`select 1 from diagnostics where vm_id = 'vm-many'`.execute(tx);
      expect(rows).toEqual([]);
    });
  });
});

describe("over HTTP", () => {
  let lab: IdentityLab;
  const tokens: Record<string, string> = {};
  const stops: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
    for (const vmId of ["vm-1", "vm-2", "vm-3", "vm-4", "vm-5"]) {
      const { body } = await lab.machine(vmId).join(await lab.joinToken({ pool_id: "pool-a" }));
      tokens[vmId] = body.access_token;
      const headers = { authorization: `Bearer ${tokens[vmId]}` };
      expect((await call(`${lab.url}/api/v1/vms/${vmId}/heartbeat`, { json: {}, headers })).status).toBe(200);
    }
  });
  afterAll(async () => {
    for (const stop of stops) await stop();
  });

  const order = async (vmId: string): Promise<string> =>
    (await lab.api("POST", `vms/${vmId}/commands`, { type: "collect_diagnostics" })).body.id;
  const put = (
    vmId: string,
    commandId: string,
    content: Buffer,
    more: Record<string, string> = {},
  ): Promise<Reply> =>
    call(`${lab.url}/api/v1/vms/${vmId}/diagnostics/${commandId}`, {
      method: "PUT",
      body: content,
      headers: {
        authorization: `Bearer ${tokens[vmId]}`,
        "content-type": "application/gzip",
        "content-digest": writeContentDigest(bundleOf(content).sha256),
        ...more,
      },
    });

  it("takes a bundle from the VM's own agent, bounded and checked", async () => {
    const id = await order("vm-1");
    const { content, sha256 } = someBundle();
    const full = Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(1024 * 1024 - 2)]);
    const wrong: [string, Promise<Reply>, number][] = [
      ["another VM's token", put("vm-1", id, content, { authorization: `Bearer ${tokens["vm-2"]}` }), 403],
      [
        "another digest",
        put("vm-1", id, content, { "content-digest": writeContentDigest("0".repeat(64)) }),
        400,
      ],
      ["no digest", put("vm-1", id, content, { "content-digest": "md5=:x:" }), 400],
    ];
    for (const [what, reply, status] of wrong) expect([what, (await reply).status]).toEqual([what, status]);
    expect((await put("vm-1", id, Buffer.from("no gzip at all"))).status).toBe(400);
    expect((await put("vm-1", id, Buffer.alloc(0))).status).toBe(400);
    expect((await put("vm-1", id, content, { "content-type": "application/json" })).status).toBe(415);
    expect((await put("vm-1", id, Buffer.concat([full, Buffer.alloc(1)]))).status).toBe(413);
    const stored = await put("vm-1", id, content);
    expect([stored.status, stored.body]).toEqual([
      200,
      { status: "stored", vm_id: "vm-1", command_id: id, bytes: content.length, sha256 },
    ]);
    expect((await put("vm-1", id, content)).status).toBe(200);
    expect((await put("vm-1", id, full)).status).toBe(409);
    expect((await put("vm-1", await order("vm-1"), full)).status).toBe(200);
    expect((await put("vm-2", id, content)).status).toBe(404);
  });

  it("shows operators of the organization what there is, and the log who took it", async () => {
    const id = await order("vm-2");
    const { content, sha256 } = someBundle();
    expect((await put("vm-2", id, content)).status).toBe(200);
    const list = (await lab.api("GET", "vms/vm-2/diagnostics")).body;
    expect(list.diagnostics).toEqual([
      {
        ...{ command_id: id, vm_id: "vm-2", bytes: content.length, sha256, received_at: expect.any(String) },
        ...{ command_state: expect.stringMatching(/pending|sent/), files: null, truncated: null },
      },
    ]);
    const key = await lab.key({ role: "operator", orgs: ["acme"] });
    const take = (bearer: string) =>
      fetch(`${lab.url}/api/v1/vms/vm-2/diagnostics/${id}`, {
        headers: { authorization: `Bearer ${bearer}` },
      });
    const taken = await take(key);
    expect(Buffer.from(await taken.arrayBuffer())).toEqual(content);
    expect(Object.fromEntries(taken.headers)).toMatchObject({
      "content-type": "application/gzip",
      "content-disposition": `attachment; filename="vm-2-${id}.tar.gz"`,
      "content-digest": writeContentDigest(sha256),
    });
    expect((await take(await lab.key({ role: "operator", orgs: ["other"] }))).status).toBe(404);
    expect((await take(await lab.key({ role: "viewer" }))).status).toBe(403);
    const { entries } = (await lab.api("GET", "audit?action=diagnostics.read")).body;
    expect(entries).toHaveLength(1);
    expect(JSON.stringify(entries)).toContain(id);
    expect(JSON.stringify(lab.controllers[0]?.lines)).not.toContain(content.toString("base64"));
  });

  it("holds four bodies at once and one of a VM, and tells the others when to come again", async () => {
    const { hostname, port } = new URL(lab.url);
    const vms = ["vm-1", "vm-2", "vm-3", "vm-4"];
    const held = await Promise.all(
      vms.map(async (vmId) => {
        const id = await order(vmId);
        const socket = connect(Number(port), hostname);
        socket.on("error", () => {});
        socket.write(
          `PUT /api/v1/vms/${vmId}/diagnostics/${id} HTTP/1.1\r\nhost: x\r\ncontent-type: application/gzip\r\n` +
            `authorization: Bearer ${tokens[vmId]}\r\ncontent-length: 1000\r\n\r\n\x1f`,
        );
        return socket;
      }),
    );
    const id = await order("vm-5");
    const { content } = someBundle();
    const full = await waitFor("all room to be taken", async () => {
      const reply = await put("vm-5", id, content);
      return reply.status === 503 ? reply : undefined;
    });
    expect(full.body.error).toMatchObject({ code: "overloaded", retry_after_ms: 2_000 });
    const second = await put("vm-1", await order("vm-1"), content);
    expect([second.status, second.headers.get("retry-after")]).toEqual([409, "2"]);
    for (const socket of held) socket.destroy();
    await waitFor("room", async () => (await put("vm-5", id, content)).status === 200);
  });
});
