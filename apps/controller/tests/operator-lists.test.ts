import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { server } from "./directory-server.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { call } from "./open-test-listeners.ts";

const engines = ["PGlite", "PostgreSQL server"];

/** On both: only a server runs transactions side by side, as the orders of one key need it to be shown. */
for (const engine of engines)
  describe.skipIf(engine !== "PGlite" && !server.available)(`operators' lists on ${engine}`, () => {
    let lab: IdentityLab;
    const stops: (() => Promise<void>)[] = [];
    const tokens = new Map<string, string>();
    const keys: Record<string, string> = {};

    beforeAll(async () => {
      const atEnd = (stop: () => Promise<void>) => void stops.push(stop);
      const database = engine === "PGlite" ? undefined : await server.create();
      lab = await openIdentityLab({
        atEnd,
        ...(database === undefined ? {} : { databaseUrl: database.url }),
      });
      if (database !== undefined) stops.push(() => database.drop());
      for (const [vmId, pool] of [
        ["a-1", "pool-a"],
        ["a-2", "pool-a"],
        ["b-1", "pool-b"],
      ] as const) {
        const joined = await lab.machine(vmId).join(await lab.joinToken({ pool_id: pool }));
        tokens.set(vmId, joined.body.access_token);
        await tell(vmId, "vm_started", 5);
        await agent(vmId, "heartbeat", {});
        await order(vmId, { type: "set_log_level", parameters: { level: "debug" } });
      }
      keys["acme"] = await lab.key({ role: "operator", orgs: ["acme"] });
      keys["viewer"] = await lab.key({ role: "viewer" });
    });
    afterAll(async () => {
      for (const stop of stops) await stop();
    });

    let told = 0;
    async function tell(vmId: string, type: string, times: number): Promise<void> {
      const events = Array.from({ length: times }, (_, n) => ({
        event_id: `e-${told + n}`,
        type,
        timestamp: new Date().toISOString(),
      }));
      told += times;
      const reply = await agent(vmId, "events", { events });
      expect(reply.status).toBe(200);
    }

    const agent = (vmId: string, path: string, json: object) =>
      call(`${lab.url}/api/v1/vms/${vmId}/${path}`, {
        json,
        headers: { authorization: `Bearer ${tokens.get(vmId)}` },
      });
    const order = (vmId: string, json: object, headers: Record<string, string> = {}, key?: string) =>
      call(`${lab.url}/api/v1/vms/${vmId}/commands`, {
        json,
        headers: { authorization: `Bearer ${key ?? ownerKey()}`, ...headers },
      });
    /** The first key, as the lab's own calls carry it. */
    const ownerKey = (): string =>
      /mgk_\w+/.exec(lab.controllers.map((one) => one.told.join("")).join(""))?.[0] ?? "";
    const get = async (path: string, key?: string) => lab.api("GET", path, undefined, key ?? ownerKey());

    describe("the lists", () => {
      it.each(["events", "heartbeats", "commands"])(
        "%s are filtered by vm, pool, org and time",
        async (list) => {
          const owners = async (query: string) =>
            new Set((await get(`${list}?${query}`)).body[list].map((row: { vm_id: string }) => row.vm_id));
          expect(await owners("")).toEqual(new Set(["a-1", "a-2", "b-1"]));
          expect(await owners("vm_id=a-2")).toEqual(new Set(["a-2"]));
          expect(await owners("pool_id=pool-a")).toEqual(new Set(["a-1", "a-2"]));
          expect(await owners("org_id=other")).toEqual(new Set(["b-1"]));
          expect(await owners("org_id=other&pool_id=pool-a")).toEqual(new Set());
          expect(await owners("since=2000-01-01T00:00:00Z&until=9999-01-01T00:00:00Z")).toHaveProperty(
            "size",
            3,
          );
          expect(await owners("until=2000-01-01")).toEqual(new Set());
          expect(await owners("since=9999-01-01")).toEqual(new Set());
        },
      );

      it("events and commands are filtered by type, commands by state", async () => {
        expect((await get("events?type=vm_started&vm_id=a-1")).body.events).toHaveLength(5);
        expect((await get("events?type=runner_registered")).body.events).toHaveLength(0);
        expect((await get("commands?type=set_log_level")).body.commands).toHaveLength(3);
        expect((await get("commands?type=drain")).body.commands).toHaveLength(0);
        expect((await get("commands?state=pending&type=set_log_level")).body.commands).toHaveLength(3);
        expect((await get("commands?state=failed")).body.commands).toHaveLength(0);
        expect((await get("heartbeats?type=x")).status).toBe(200);
      });

      it.each(["events", "heartbeats", "commands"])(
        "%s show nothing of another organization",
        async (list) => {
          const shown = async (query: string) =>
            (await get(`${list}?${query}`, keys["acme"])).body[list].map(
              (row: { vm_id: string }) => row.vm_id,
            );
          expect(new Set(await shown(""))).toEqual(new Set(["a-1", "a-2"]));
          for (const query of ["org_id=other", "pool_id=pool-b", "vm_id=b-1"])
            expect(await shown(query), query).toEqual([]);
          // A cursor is a place, not a permission.
          const { next_cursor: cursor } = (await get(`${list}?limit=1`)).body;
          expect(await shown(`cursor=${cursor}`)).not.toContain("b-1");
          expect((await get(list, tokens.get("a-1"))).status).toBe(403);
          expect((await call(`${lab.url}/api/v1/${list}`)).status).toBe(401);
        },
      );

      it("pages leave nothing out and show nothing twice while rows are added", async () => {
        const before: string[] = (await get("events?limit=1000")).body.events.map(idOf);
        const walked: string[] = [];
        let cursor: string | null = "";
        do {
          const { body } = await get(`events?limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`);
          walked.push(...body.events.map(idOf));
          cursor = body.next_cursor;
          await tell("a-1", "vm_started", 1);
        } while (cursor !== null);
        expect(walked).toEqual(before);
      });

      it.each(["events", "heartbeats", "commands"])("%s refuse what is no cursor of theirs", async (list) => {
        const own = list.slice(0, -1);
        const b64 = (text: string) => Buffer.from(text).toString("base64url");
        for (const cursor of [
          "x",
          b64(`${own}:`),
          b64(`${own}:-1`),
          b64(`${own}:1' or 1=1`),
          b64(`${own}:${"9".repeat(40)}`),
          b64("vm:1"),
          "%00",
        ])
          expect((await get(`${list}?cursor=${cursor}`)).status, cursor).toBe(400);
        for (const bad of ["limit=0", "since=yesterday", "until=-271821-04-20", "since=12", "vm_id=../x"])
          expect((await get(`${list}?${bad}`)).status, bad).toBe(400);
      });
    });

    const idOf = (row: { vm_id: string; event_id: string }): string => `${row.vm_id} ${row.event_id}`;

    describe("commands", () => {
      it("one is shown to who may see its VM, and does not exist for others", async () => {
        const { id } = (await get("commands?vm_id=b-1")).body.commands.at(-1);
        expect((await get(`commands/${id}`)).body).toMatchObject({ id, vm_id: "b-1", state: "pending" });
        expect((await get(`commands/${id}`, keys["acme"])).status).toBe(404);
        expect((await lab.api("POST", `commands/${id}/cancel`, undefined, keys["acme"])).status).toBe(404);
        expect((await lab.api("POST", `commands/${id}/cancel`, undefined, keys["viewer"])).status).toBe(403);
        expect((await get("commands/none")).status).toBe(404);
      });

      it("is taken back once, and never when the VM has it; the log says who", async () => {
        const { id } = (await order("a-2", { type: "drain" })).body;
        const cancel = () => lab.api("POST", `commands/${id}/cancel`, undefined, keys["acme"]);
        expect((await cancel()).body).toMatchObject({ id, state: "cancelled" });
        expect((await cancel()).status).toBe(409);
        const { entries } = (await get("audit?object=vm:a-2")).body;
        expect(entries.map((entry: { action: string }) => entry.action).slice(0, 2)).toEqual([
          "command.cancel",
          "vm.command",
        ]);
        expect(entries[0]).toMatchObject({ org_id: "acme", details: { command_id: id, type: "drain" } });

        await order("a-1", { type: "drain" });
        const polled = await call(`${lab.url}/api/v1/vms/a-1/commands`, {
          headers: { authorization: `Bearer ${tokens.get("a-1")}` },
        });
        const [{ id: sent }] = polled.body.commands;
        const late = await lab.api("POST", `commands/${sent}/cancel`);
        expect([late.status, late.body.error.code]).toEqual([409, "conflict"]);
        expect((await get("audit/verify?org_id=acme")).body).toMatchObject({ ok: true });
      });

      it("an order with an Idempotency-Key is carried out once, also when fifty are sent at once", async () => {
        const json = { type: "update_config", parameters: { a: 1 } };
        const once = { "idempotency-key": "order-1" };
        const replies = await Promise.all(Array.from({ length: 50 }, () => order("a-2", json, once)));
        expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([201]));
        expect(new Set(replies.map(({ body }) => body.id))).toHaveProperty("size", 1);
        expect((await get("commands?vm_id=a-2&type=update_config")).body.commands).toHaveLength(1);
        const other = await order("a-2", { ...json, parameters: { a: 2 } }, once);
        expect([other.status, other.body.error.code]).toEqual([422, "refused"]);
        expect((await order("a-1", json, once)).status).toBe(422);
        // Another caller's key is another key.
        expect((await order("a-2", json, once, keys["acme"])).body.id).not.toBe(replies[0]?.body.id);
        expect((await order("a-2", json, { "idempotency-key": "two words" })).status).toBe(400);
      });

      it("of orders for different VMs that race with one key, one is carried out", async () => {
        for (let round = 0; round < 10; round += 1) {
          const once = { "idempotency-key": `race-${round}` };
          const replies = await Promise.all(
            ["a-1", "a-2", "b-1"].map((vmId) => order(vmId, { type: "update_config" }, once)),
          );
          expect(replies.map(({ status }) => status).sort()).toEqual([201, 422, 422]);
        }
      });

      it("a refused order leaves the key free and nothing in the log", async () => {
        const once = { "idempotency-key": "order-2" };
        expect((await order("b-1", { type: "no_such_type" }, once)).status).toBe(422);
        expect((await order("b-1", { type: "drain" }, once)).status).toBe(201);
      });
    });
  });
