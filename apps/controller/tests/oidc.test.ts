import { createHmac, createPublicKey } from "node:crypto";
import { MigError, operatorRoles } from "@mig/lifecycle";
import { type OidcIssuer, startOidcIssuer } from "@mig/sandbox";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { OidcRoleRow } from "../src/config/oidc.ts";
import { chooseRole, OidcOperators } from "../src/identity/oidc.ts";
import { dialSse } from "./dial-sse.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import type { Reply } from "./open-test-listeners.ts";

/** Operators with a token of their OpenID provider (issue 5, item 4). */
const audience = "mig-controller.acme";
const roles: OidcRoleRow[] = [
  { value: "platform", role: "admin" },
  { value: "acme-devs", role: "operator", orgs: ["acme"] },
  { value: "acme-admins", role: "admin", orgs: ["acme"] },
  { value: "everybody", role: "viewer" },
];
let issuer: OidcIssuer;
beforeAll(async () => {
  issuer = await startOidcIssuer(audience);
});
afterAll(() => issuer.close());

describe("a controller with a provider", () => {
  let lab: IdentityLab;
  const stops: (() => Promise<void>)[] = [];
  const as = (token: string, method = "GET", path = "vms", json?: object): Promise<Reply> =>
    lab.api(method, path, json, token);
  const good = { groups: ["everybody", "platform"], email: "ada@acme.example", email_verified: true };
  beforeAll(async () => {
    const oidc = { issuer: issuer.issuer, audience, roles };
    lab = await openIdentityLab({ yaml: { oidc }, atEnd: (stop) => void stops.push(stop) });
    for (const [vmId, poolId] of [
      ["vm-acme", "pool-a"],
      ["vm-other", "pool-b"],
    ] as const) {
      const machine = lab.machine(vmId);
      const { access_token } = (await machine.join(await lab.joinToken({ pool_id: poolId }))).body;
      const event = {
        type: "vm_started",
        vm_id: vmId,
        pool_id: poolId,
        timestamp: new Date().toISOString(),
      };
      expect((await as(access_token, "POST", `vms/${vmId}/events`, event)).status).toBe(200);
    }
  });
  afterAll(async () => {
    for (const stop of stops) await stop();
  });

  test("lets in whoever the rows name, with the role and the organizations of the row", async () => {
    const all = await as(issuer.token(good));
    expect(all.status).toBe(200);
    expect(all.body.vms.map(({ vm_id }: { vm_id: string }) => vm_id).sort()).toEqual(["vm-acme", "vm-other"]);
    const dev = issuer.token({ groups: "acme-devs" });
    const own = await as(dev);
    expect(own.body.vms.map(({ vm_id }: { vm_id: string }) => vm_id)).toEqual(["vm-acme"]);
    expect((await as(dev, "GET", "vms/vm-other")).status).toBe(404);
    expect((await as(dev, "GET", "events?limit=10")).body.events.length).toBe(1);
    expect((await as(dev, "POST", "api-keys", { name: "mine", role: "admin" })).status).toBe(403);
  });

  test("writes down whose token it was, by e-mail only where the provider vouches for it", async () => {
    const actorOf = async (claims: object): Promise<string> => {
      const made = await as(issuer.token({ ...good, ...claims }), "POST", "join-tokens", {
        pool_id: "pool-a",
      });
      expect(made.status).toBe(201);
      const { entries } = (await lab.api("GET", "audit?org_id=acme&limit=500")).body;
      return entries.find(({ object }: { object: string }) => object.endsWith(made.body.id)).actor;
    };
    expect(await actorOf({})).toBe("key:oidc:ada@acme.example");
    expect(await actorOf({ email_verified: false })).toBe("key:oidc:4711");
    expect(await actorOf({ email: "first (mgk_0)" })).toBe("key:oidc:4711");
  });

  const nowS = Math.floor(Date.now() / 1000);
  test.each<[string, object]>([
    ["another issuer", { iss: "https://accounts.example" }],
    ["the issuer with a slash", { iss: "SLASH" }],
    ["no issuer", { iss: undefined }],
    ["another audience", { aud: "somebody-else" }],
    ["an audience that only begins so", { aud: `${audience}.evil` }],
    ["one audience more", { aud: [audience, "somebody-else"] }],
    ["no audience", { aud: undefined }],
    ["an expiry that is over", { exp: nowS - 120 }],
    ["no expiry", { exp: undefined }],
    ["an expiry that is a text", { exp: "tomorrow" }],
    ["a beginning to come", { nbf: nowS + 300 }],
    ["an age of thirteen hours", { iat: nowS - 13 * 3_600, exp: nowS + 3_600 }],
    ["an issue to come", { iat: nowS + 300, exp: nowS + 3_600 }],
    ["no time of issue", { iat: undefined }],
    ["no subject", { sub: undefined }],
    ["an empty subject", { sub: "" }],
    ["a subject with a line break", { sub: "a\nb" }],
  ])("refuses a token with %s", async (_what, wrong) => {
    const slash = "iss" in wrong && wrong.iss === "SLASH" ? { iss: `${issuer.issuer}/` } : wrong;
    const { status, body } = await as(issuer.token({ ...good, ...slash }));
    expect([status, body.error.code]).toEqual([401, "unauthenticated"]);
  });

  test("takes clocks that differ by less than a minute", async () => {
    const atS = Math.floor(Date.now() / 1000);
    const late = issuer.token({ ...good, exp: atS - 20, nbf: atS + 40 });
    expect((await as(late)).status).toBe(200);
  });

  test("a live feed ends with its token, and tells where to go on with the next", async () => {
    const exp = Math.floor(Date.now() / 1000) + 2;
    const headers = { authorization: `Bearer ${issuer.token({ ...good, exp })}` };
    await using stream = await dialSse(`${lab.url}/api/v1/feed`, headers);
    const { id } = await stream.next("hello");
    expect((await stream.next("go_away")).data).toMatchObject({ reason: "token_expired", cursor: id });
    await stream.ended;
    expect(Date.now()).toBeGreaterThanOrEqual(exp * 1000 - 50);
  });

  test("takes no signature but one of the provider's keys by an algorithm of the list", async () => {
    const pem = createPublicKey(issuer.key.privateKey).export({ type: "spki", format: "pem" });
    const jwk = createPublicKey(issuer.makeKey().privateKey).export({ format: "jwk" });
    const stranger = issuer.makeKey();
    const [head = "", body = "", seal = ""] = issuer.token(good).split(".");
    const flipped = Buffer.from(seal, "base64url");
    flipped[10] = (flipped[10] ?? 0) ^ 1;
    const wrong: Record<string, string> = {
      "alg none": issuer.token(good, { header: { alg: "none" }, seal: () => Buffer.alloc(0) }),
      "HS256 by the public key": issuer.token(good, {
        header: { alg: "HS256" },
        seal: (input) => createHmac("sha256", pem).update(input).digest(),
      }),
      "a flipped bit": `${head}.${body}.${flipped.toString("base64url")}`,
      "another body": `${head}.${Buffer.from("{}").toString("base64url")}.${seal}`,
      "no signature": `${head}.${body}.`,
      "a stranger's key": issuer.token(good, { key: stranger }),
      "a stranger's key under a known name": issuer.token(good, {
        key: stranger,
        header: { kid: issuer.key.kid },
      }),
      "its own key in the header": issuer.token(good, { key: stranger, header: { jwk, kid: undefined } }),
      "an extension that nobody knows": issuer.token(good, { header: { crit: ["x"], x: 1 } }),
      "the type of a VM's token": issuer.token(good, { header: { typ: "vm+jwt" } }),
      "no JWT": "a.b.c",
    };
    for (const [what, token] of Object.entries(wrong))
      expect([what, (await as(token)).status]).toEqual([what, 401]);
  });

  test("tells who has no role which claim it looked at, and takes no VM's place", async () => {
    for (const groups of [["nobody"], [], undefined, 7, { platform: true }]) {
      const { status, body } = await as(issuer.token({ ...good, groups }));
      expect([status, body.error.message]).toEqual([403, expect.stringContaining("claim groups")]);
    }
    const speak = await as(issuer.token(good), "POST", "vms/vm-acme/heartbeat", {});
    expect(speak.status).toBe(403);
  });

  test("goes on knowing VMs' tokens and API keys", async () => {
    const vm = (await lab.machine("vm-more").join(await lab.joinToken())).body.access_token;
    expect((await as(vm, "POST", "vms/vm-more/heartbeat", {})).status).toBe(200);
    expect((await as(vm)).status).toBe(403);
    expect((await as(await lab.key({ role: "viewer" }))).status).toBe(200);
  });
});

describe("the provider's keys", () => {
  let nowMs = 0;
  let people: OidcOperators;
  const config = () => ({ issuer: issuer.issuer, audience, claim: "groups", maxAgeMs: 3_600_000, roles });
  const token = (more: object = {}, how: object = {}): string =>
    issuer.token({ groups: ["everybody"], ...more }, { nowMs, ...how });
  const codeOf = (text: string): Promise<string> =>
    people.find(text).then(
      ({ role }) => role,
      (error: unknown) => (error instanceof MigError ? error.code : String(error)),
    );
  const reads = (): number => issuer.requests.filter(({ path }) => path === "/keys").length;
  beforeEach(() => {
    issuer.mend();
    nowMs = Date.now();
    people = new OidcOperators(config(), () => nowMs);
  });

  test.each(["RS256", "ES256", "EdDSA"] as const)("%s is good", async (alg) => {
    issuer.rotate(alg);
    expect(await codeOf(token())).toBe("viewer");
  });

  test("a new key is good at once, and the one that was taken back ten minutes later at most", async () => {
    const old = issuer.key;
    expect(await codeOf(token())).toBe("viewer");
    issuer.rotate();
    nowMs += 20_000;
    const before = token({}, { key: old });
    expect(await codeOf(before)).toBe("viewer");
    expect(await codeOf(token())).toBe("viewer");
    expect(await codeOf(before)).toBe("unauthenticated");
    const again = issuer.key;
    issuer.rotate();
    nowMs += 11 * 60_000;
    expect(await codeOf(token({}, { key: again }))).toBe("unauthenticated");
  });

  test("unknown keys cost the provider one call in ten seconds, and many who wait share one", async () => {
    const before = reads();
    await Promise.all(Array.from({ length: 50 }, () => codeOf(token())));
    expect(reads() - before).toBe(1);
    for (let n = 0; n < 20; n += 1) {
      expect(await codeOf(token({}, { key: issuer.makeKey() }))).toBe("unauthenticated");
      nowMs += 1_000;
    }
    expect(reads() - before).toBeLessThanOrEqual(3);
  });

  test.each(["cut", "garbage", "status"] as const)(
    "with the provider down (%s) known keys go on, and for others it is said that nobody can tell",
    async (kind) => {
      expect(await codeOf(token())).toBe("viewer");
      issuer.fail({ kind, status: 503 });
      nowMs += 30 * 60_000;
      expect(await codeOf(token())).toBe("viewer");
      const error = await people
        .find(token({}, { key: issuer.makeKey() }))
        .catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "identity_unavailable", retryAfterMs: expect.any(Number) });
      people = new OidcOperators(config(), () => nowMs);
      expect(await codeOf(token())).toBe("identity_unavailable");
      issuer.mend();
      nowMs += 10_000;
      expect(await codeOf(token())).toBe("viewer");
    },
  );

  test("a discovery document of another issuer is not taken", async () => {
    people = new OidcOperators({ ...config(), issuer: `${issuer.issuer}/` }, () => nowMs);
    expect(await codeOf(token({ iss: `${issuer.issuer}/` }))).toBe("identity_unavailable");
    // Who writes down where the keys are asks nobody.
    const keyed = { ...config(), issuer: `${issuer.issuer}/`, keysUrl: issuer.keysUrl };
    people = new OidcOperators(keyed, () => nowMs);
    expect(await codeOf(token({ iss: `${issuer.issuer}/` }))).toBe("viewer");
  });

  test("a token ends with its expiry or with its age, whichever is first", async () => {
    const nowS = Math.floor(nowMs / 1000);
    const until = async (claims: object) => (await people.find(token(claims))).untilMs;
    expect(await until({ exp: nowS + 60 })).toBe((nowS + 60) * 1000);
    expect(await until({ exp: nowS + 86_400 })).toBe((nowS + 3_600) * 1000);
  });

  test("other claims: inside of others, and an e-mail address only when it is vouched for", async () => {
    people = new OidcOperators({ ...config(), claim: "realm_access.roles" }, () => nowMs);
    expect(await codeOf(token({ realm_access: { roles: ["platform"] } }))).toBe("admin");
    expect(await codeOf(token({ "realm_access.roles": "acme-devs" }))).toBe("operator");
    expect(await codeOf(token({ realm_access: "platform" }))).toBe("forbidden");
    const rows: OidcRoleRow[] = [{ value: "ada@acme.example", role: "admin" }];
    people = new OidcOperators({ ...config(), claim: "email", roles: rows }, () => nowMs);
    const email = "ada@acme.example";
    expect(await codeOf(token({ email, email_verified: true }))).toBe("admin");
    expect(await codeOf(token({ email }))).toBe("forbidden");
    expect(await codeOf(token({ email, email_verified: "true" }))).toBe("forbidden");
  });
});

test("the highest role of all rows that fit, and of those the first", () => {
  const anyRow = fc.record({
    value: fc.constantFrom("a", "b", "c", "d"),
    role: fc.constantFrom(...operatorRoles),
    orgs: fc.constantFrom(["x"], ["y"]),
  });
  fc.assert(
    fc.property(fc.array(fc.constantFrom("a", "b", "c", "d")), fc.array(anyRow), (values, rows) => {
      const fitting = rows.filter(({ value }) => values.includes(value));
      const rank = (row: OidcRoleRow): number => operatorRoles.indexOf(row.role);
      const chosen = chooseRole(values, rows);
      if (chosen === undefined) return fitting.length === 0;
      const best = Math.max(...fitting.map(rank));
      return rank(chosen) === best && fitting.find((row) => rank(row) === best) === chosen;
    }),
  );
});
