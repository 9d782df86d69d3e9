import { request as httpsRequest } from "node:https";
import { connectGithub, createTestCa, type Github, type GithubOptions } from "@mig/sandbox";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { mergePatch } from "../src/github/faults.ts";
import { appJwt, Lab } from "./lab.ts";

const dayMs = 86_400_000;

describe("what GitHub knows, and its clock", () => {
  let lab: Lab | undefined;
  afterEach(() => lab?.close());
  async function open(options: GithubOptions = {}) {
    lab = await Lab.open(options);
    return lab;
  }
  const asApp = async (github: Github, path: string, method = "GET", jwt = appJwt({})) => {
    const response = await fetch(github.url + path, {
      method,
      redirect: "manual",
      headers: { authorization: `Bearer ${jwt}`, "user-agent": "mig-tests" },
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      json: JSON.parse(text) as Record<string, unknown>,
    };
  };
  const jwtAt = (skewMs: number) => {
    const nowS = Math.floor((Date.now() + skewMs) / 1000);
    return appJwt({ iat: nowS - 60, exp: nowS + 480 });
  };

  it.each([600_000, -600_000, 3 * dayMs, -3 * dayMs])(
    "goes by a clock that is off by %d ms",
    async (clockSkewMs) => {
      const { github } = await open({ clockSkewMs });
      const refused = await asApp(github, "/app");
      expect(refused.status).toBe(401);
      expect(refused.json["message"]).toContain(
        clockSkewMs < 0 ? "'Issued at' claim ('iat') must be" : "'Expiration time' claim ('exp') must be",
      );
      const skewMs = Date.parse(refused.headers.get("date") ?? "") - Date.now();
      expect(Math.abs(skewMs - clockSkewMs)).toBeLessThan(2_000);
      expect((await asApp(github, "/app", "GET", jwtAt(skewMs))).status).toBe(200);
      const token = await asApp(github, "/app/installations/1/access_tokens", "POST", jwtAt(skewMs));
      const expiresInMs = Date.parse(String(token.json["expires_at"])) - Date.now();
      expect(Math.abs(expiresInMs - 3_600_000 - clockSkewMs)).toBeLessThan(2_000);
      await github.setClock(0);
      expect((await asApp(github, "/app")).status).toBe(200);
    },
  );

  it("a JWT whose iat is no integer is refused in GitHub's words", async () => {
    const { github } = await open();
    const refused = await asApp(github, "/app", "GET", appJwt({ iat: Date.now() / 1000 - 60.5 }));
    expect(refused).toMatchObject({
      status: 401,
      json: { message: expect.stringContaining("must be an Integer") },
    });
  });

  it("an App is uninstalled, installed again under a new number, suspended, and let back in", async () => {
    const { github } = await open({ installations: { acme: 5 } });
    const lookUp = () => asApp(github, "/orgs/acme/installation");
    const buy = (id: number) => asApp(github, `/app/installations/${id}/access_tokens`, "POST");
    expect(await lookUp()).toMatchObject({ status: 200, json: { id: 5, suspended_at: null } });
    await github.uninstall("acme");
    expect([(await lookUp()).status, (await buy(5)).status]).toEqual([404, 404]);
    const id = await github.install("acme");
    expect(id).not.toBe(5);
    expect((await lookUp()).json["id"]).toBe(id);
    expect([(await buy(5)).status, (await buy(id)).status]).toEqual([404, 201]);
    await github.suspend("acme", true);
    expect(Date.parse(String((await lookUp()).json["suspended_at"]))).toBeLessThanOrEqual(Date.now());
    expect(await buy(id)).toMatchObject({
      status: 403,
      json: { message: "This installation has been suspended" },
    });
    await github.suspend("acme", false);
    expect((await buy(id)).status).toBe(201);
  });

  it("without a list every owner is installed, until one is taken out", async () => {
    const { github, ...rest } = await open();
    expect(rest).toBeDefined();
    expect((await asApp(github, "/orgs/any/installation")).json["id"]).toBe(1);
    await github.uninstall("Any");
    expect((await asApp(github, "/orgs/any/installation")).status).toBe(404);
    expect((await asApp(github, "/orgs/other/installation")).status).toBe(200);
    await github.suspend("other", true);
    expect((await asApp(github, "/orgs/other/installation")).json["suspended_at"]).not.toBeNull();
  });

  it("a renamed repository leads on, for good or for this once", async () => {
    const { github } = await open();
    await github.renameRepository("acme/old", "acme/new");
    const moved = await asApp(github, "/api/v3/repos/acme/old/installation");
    expect(moved.status).toBe(301);
    const location = moved.headers.get("location") ?? "";
    expect(location).toMatch(/\/api\/v3\/repositories\/\d+\/installation$/);
    expect(moved.json).toMatchObject({ message: "Moved Permanently", url: location });
    expect((await asApp(github, location.slice(github.url.length))).status).toBe(200);
    expect((await asApp(github, "/repos/acme/old/actions/runners/registration-token", "POST")).status).toBe(
      307,
    );
  });

  it("runner groups are those that it is given", async () => {
    const one = await open({
      runnerGroups: [
        { id: 1, name: "Default" },
        { id: 4, name: "Trusted", visibility: "selected", allowsPublicRepositories: true },
      ],
    });
    const { json } = await one.rest("GET", "/orgs/acme/actions/runner-groups");
    expect(json).toMatchObject({
      total_count: 2,
      runner_groups: [
        { id: 1, default: true, visibility: "all", allows_public_repositories: false },
        { id: 4, default: false, visibility: "selected", allows_public_repositories: true },
      ],
    });
    const jit = (runner_group_id: number) => ({
      name: `vm-${runner_group_id}`,
      runner_group_id,
      labels: ["x"],
    });
    const path = "/orgs/acme/actions/runners/generate-jitconfig";
    expect(await one.rest("POST", path, jit(4))).toMatchObject({
      status: 201,
      json: { runner: { runner_group_id: 4 } },
    });
    expect((await one.rest("POST", path, jit(3))).status).toBe(404);
    expect(
      (await one.rest("POST", "/repos/acme/app/actions/runners/generate-jitconfig", jit(4))).status,
    ).toBe(404);
  });

  it("an App has the permissions that it is given", async () => {
    const { github } = await open({
      permissions: { metadata: "read", organization_self_hosted_runners: "read" },
    });
    const { json } = await asApp(github, "/app");
    expect(json["permissions"]).toEqual({ metadata: "read", organization_self_hosted_runners: "read" });
    const buy = await fetch(`${github.url}/app/installations/1/access_tokens`, {
      method: "POST",
      headers: { authorization: `Bearer ${appJwt({})}`, "user-agent": "mig-tests" },
      body: JSON.stringify({ permissions: { organization_self_hosted_runners: "write" } }),
    });
    expect(buy.status).toBe(422);
  });

  it("pages have links to the others", async () => {
    const one = await open();
    for (const name of ["a", "b", "c"])
      await one.rest("POST", "/orgs/acme/actions/runners/generate-jitconfig", {
        name,
        runner_group_id: 1,
        labels: ["x"],
      });
    const second = await one.rest("GET", "/orgs/acme/actions/runners?per_page=1&page=2");
    const links = second.headers.get("link") ?? "";
    expect(
      [...links.matchAll(/[?&]page=(\d+)>; rel="(\w+)"/g)].map(([, page, rel]) => `${rel} ${page}`),
    ).toEqual(["first 1", "prev 1", "next 3", "last 3"]);
    expect((await one.rest("GET", "/orgs/acme/actions/runners")).headers.get("link")).toBeNull();
  });

  it("takes its time when told", async () => {
    const one = await open({ latencyMs: 60 });
    const beganMs = performance.now();
    await asApp(one.github, "/app");
    expect(performance.now() - beganMs).toBeGreaterThanOrEqual(59);
  });

  it("speaks TLS", async () => {
    const authority = await createTestCa();
    const { certPem: cert, keyPem: key } = await authority.issue({ hosts: ["127.0.0.1"] });
    const { github } = await open({ tls: { cert, key } });
    expect(github.url).toMatch(/^https:/);
    const headers = { authorization: `Bearer ${appJwt({})}`, "user-agent": "mig-tests" };
    const status = await new Promise<number | undefined>((resolve, reject) => {
      httpsRequest(`${github.url}/app`, { ca: authority.caPem, headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on("error", reject)
        .end();
    });
    expect(status).toBe(200);
  });

  it("all of it can be steered from another process", async () => {
    const { github } = await open();
    const other = connectGithub(github.url);
    expect(await other.install("acme")).toBe(2);
    await other.suspend("acme", true);
    expect((await asApp(github, "/orgs/acme/installation")).json["suspended_at"]).not.toBeNull();
    await other.uninstall("acme");
    expect((await asApp(github, "/orgs/acme/installation")).status).toBe(404);
    await other.renameRepository("acme/old", "acme/new");
    expect((await asApp(github, "/repos/acme/old/installation")).status).toBe(301);
    await other.setClock(dayMs);
    expect((await asApp(github, "/app")).status).toBe(401);
    expect(await other.traffic()).toMatchObject({ calls: 4, underWay: 0, tooEarly: 0 });
    expect(await other.requests()).toMatchObject([
      { actor: "app", host: new URL(github.url).host },
      {},
      {},
      {},
    ]);
  });
});

describe("a merge patch (RFC 7396)", () => {
  it.each([
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b" }, { a: null }, {}],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [["a", "b"], { a: "c" }, { a: "c" }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])("%j with %j is %j", (target, patch, merged) => {
    expect(mergePatch(target, patch)).toEqual(merged);
  });

  it("changes nothing twice", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.dictionary(fc.string(), fc.jsonValue()), (target, patch) => {
        const once = mergePatch(target, patch);
        expect(mergePatch(once, patch)).toEqual(once);
      }),
    );
  });
});
