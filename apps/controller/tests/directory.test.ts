import { generateKeyPairSync, randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { createAppKey, type Github, startGithub } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { askForGrant, startController, type TestController } from "./directory-lab.ts";
import { server } from "./directory-server.ts";

/** GitHub Apps, organizations and pools over the operator API, against a whole controller and a stand-in for GitHub. */
const key = createAppKey();
let github: Github;
let nothing: object;
/** For what changes nothing; opening one takes seconds. */
let shared: TestController;
const ends: (() => Promise<void>)[] = [];

beforeAll(async () => {
  github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
  nothing = { github: { api_url: github.url, apps: [] }, orgs: [], pools: [] };
  shared = await startController(nothing, { atEnd: (stop) => void ends.push(stop) });
  await setUp(shared);
});
afterAll(async () => {
  for (const end of ends) await end();
  await github.close();
});

const appBody = (more: object = {}) => ({
  id: "acme",
  app_id: 1234,
  private_key: key.privateKeyPem,
  ...more,
});
const orgBody = () => ({ id: "acme", github: `${github.webUrl}/acme`, app: "acme" });

async function withApp(): Promise<TestController> {
  const controller = await startController(nothing);
  await setUp(controller);
  return controller;
}

async function setUp(controller: TestController): Promise<void> {
  expect((await controller.api("POST", "github-apps", appBody())).status).toBe(201);
  expect((await controller.api("POST", "orgs", orgBody())).status).toBe(201);
}

describe("from no App to a grant, without a restart", () => {
  it("an App, an organization and a pool are made, checked and used", async () => {
    const controller = await withApp();
    const pool = await controller.api("POST", "pools", {
      id: "linux",
      org_id: "acme",
      labels: ["linux"],
      registration: "jit",
    });
    expect([pool.status, pool.body]).toEqual([
      201,
      expect.objectContaining({
        id: "linux",
        source: "api",
        runner_url: `${github.webUrl}/acme`,
        served_by: "acme",
        problem: null,
      }),
    ]);
    const check = await controller.api("POST", "github-apps/acme/check");
    expect([check.status, check.body.ok, check.body.app]).toEqual([200, true, "acme"]);
    const grant = await askForGrant(controller, "vm-1", "linux");
    expect([grant.status, grant.body]).toEqual([
      200,
      expect.objectContaining({ jit_config: expect.any(String) }),
    ]);
    // In use now, each by the next.
    for (const path of ["github-apps/acme", "orgs/acme", "pools/linux"]) {
      const refused = await controller.api("DELETE", path);
      expect([refused.status, refused.body.error.message]).toEqual([
        409,
        expect.stringContaining("is in use by"),
      ]);
    }
  });

  it("a replica on the same database follows within moments", async (context) => {
    if (!server.available) return context.skip();
    const database = await server.create();
    onTestFinished(() => database.drop());
    const { url: databaseUrl } = database;
    // The same master key for both, as several replicas need.
    const masterKey = join(shared.dir, "master.key");
    await writeFile(masterKey, randomBytes(32).toString("base64"), { mode: 0o600 });
    const options = { flags: ["--dev", "--secrets-master-key", `file://${masterKey}`], databaseUrl };
    const [one, two] = await Promise.all([
      startController(nothing, options),
      startController(nothing, options),
    ]);
    await setUp(one);
    await one.api("POST", "pools", { id: "linux", org_id: "acme", registration: "jit" });
    expect((await two.api("GET", "pools/linux")).body.served_by).toBe("acme");
    const changes = (controller: TestController) =>
      controller.lines.filter(({ msg }) => msg === "a GitHub App is used").length;
    await waitFor("the other replica to use the App", () => changes(two) === 1);
    expect((await askForGrant(two, "vm-9", "linux")).status).toBe(200);
    // 16 who make the same at once: one does.
    const racers = Array.from({ length: 16 }, (_, i) =>
      [one, two][i % 2]?.api("POST", "pools", { id: "raced", org_id: "acme" }),
    );
    const statuses = (await Promise.all(racers)).map((answer) => answer?.status);
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(15);
  });

  it("what is not in use can be removed, in the order in which it is not", async () => {
    const controller = await withApp();
    await controller.api("POST", "pools", { id: "linux", org_id: "acme" });
    for (const path of ["pools/linux", "orgs/acme", "github-apps/acme"]) {
      expect((await controller.api("DELETE", path)).status).toBe(204);
      expect((await controller.api("GET", path)).status).toBe(404);
      expect((await controller.api("DELETE", path)).status).toBe(404);
    }
  });
});

describe("keys", () => {
  it("a key that is sent is given out nowhere: no answer, no list, no log line", async () => {
    const controller = await withApp();
    const answers = [
      await controller.api("GET", "github-apps"),
      await controller.api("GET", "github-apps/acme"),
      await controller.api("POST", "github-apps/acme/check"),
      await controller.api("PATCH", "github-apps/acme", { private_key: key.privateKeyPem }),
      await controller.api("POST", "github-apps", appBody()),
      await controller.api(
        "POST",
        "github-apps",
        appBody({ id: "x", private_key: `${key.privateKeyPem.slice(0, 400)}broken` }),
      ),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 409, 400]);
    const said = JSON.stringify([answers.map(({ body }) => body), controller.lines]);
    for (const line of key.privateKeyPem.split("\n").filter((part) => part.length > 40))
      expect(said).not.toContain(line);
    expect(answers[1]?.body).toMatchObject({ key: "db://github-app/acme", app_id: "1234", source: "api" });
    expect(answers[1]?.body).not.toHaveProperty("private_key");
  });

  it("a key that is none changes nothing; another one is used beside the one before", async () => {
    const controller = await withApp();
    await controller.api("POST", "pools", { id: "linux", org_id: "acme", registration: "jit" });
    for (const bad of ["no key", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"]) {
      const refused = await controller.api("PATCH", "github-apps/acme", { private_key: bad });
      expect([refused.status, refused.body.error.message]).toEqual([
        400,
        expect.stringContaining("private_key"),
      ]);
    }
    expect((await controller.api("POST", "github-apps/acme/check")).body.ok).toBe(true);
    // GitHub does not know this one (yet): the first goes on working.
    const other = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({
      type: "pkcs1",
      format: "pem",
    });
    expect((await controller.api("PATCH", "github-apps/acme", { private_key: other })).status).toBe(200);
    await waitFor("both keys to be read", async () => {
      const { body } = await controller.api("POST", "github-apps/acme/check");
      return body.checks.filter(({ check }: { check: string }) => check === "key").length === 2;
    });
    const grant = await askForGrant(controller, "vm-2", "linux");
    expect(grant.status).toBe(200);
    expect(controller.lines.some(({ code }) => code === "github_key_refused")).toBe(true);
  });

  it("two keys in the database take turns", async () => {
    const { api } = await withApp();
    const seen = async (body: object) => {
      const { body: app } = await api("PATCH", "github-apps/acme", body);
      return [app.key, app.previous_key];
    };
    const [one, two] = ["db://github-app/acme", "db://github-app/acme/2"];
    expect(await seen({ previous_private_key: key.privateKeyPem })).toEqual([one, two]);
    expect(await seen({ key: two, previous_key: one })).toEqual([two, one]);
    expect(await seen({ previous_key: null })).toEqual([two, null]);
    expect(await seen({ private_key: key.privateKeyPem })).toEqual([two, null]);
    expect(await seen({ previous_private_key: key.privateKeyPem })).toEqual([two, one]);
  });

  it("moving to another reference keeps the one before as previous_key", async () => {
    const controller = await withApp();
    const moved = await controller.api("PATCH", "github-apps/acme", { key: "db://elsewhere/key" });
    expect(moved.body).toMatchObject({ key: "db://elsewhere/key", previous_key: null });
    const back = await controller.api("PATCH", "github-apps/acme", { private_key: key.privateKeyPem });
    expect(back.body).toMatchObject({ key: "db://github-app/acme", previous_key: "db://elsewhere/key" });
    const retired = await controller.api("PATCH", "github-apps/acme", { previous_key: null });
    expect(retired.body).toMatchObject({ key: "db://github-app/acme", previous_key: null });
  });

  it.each([
    "file:///etc/shadow",
    "env://HOME",
    "k8s://mig/app?mount=/etc#shadow",
    "vault://secret",
    "gcpsm://x",
    "ftp://x/y",
    "no reference",
  ])("the API takes no reference like %s", async (reference) => {
    const refused = await shared.api("POST", "github-apps", { id: "a", app_id: 1, key: reference });
    expect(refused.status).toBe(400);
    expect((await shared.api("GET", "github-apps/a")).status).toBe(404);
  });
});

describe("what contradicts the rest is refused, with the remedy", () => {
  it.each([
    ["pools", { id: "p", runner_url: "https://ghes.example/acme" }, 422, "no GitHub App is of that GitHub"],
    [
      "pools",
      { id: "p", org_id: "acme", runner_url: "https://github.com/other" },
      400,
      "is not of its organization",
    ],
    ["pools", { id: "p", org_id: "acme", app: "nobody" }, 422, 'GitHub App "nobody"; there are acme'],
    [
      "pools",
      { id: "p", app: "acme", runner_url: "https://github.com/other" },
      422,
      "that is another GitHub",
    ],
    ["pools", { id: "p", org_id: "acme", labels: ["-x"] }, 400, "no leading"],
    ["pools", { id: "p", org_id: "acme", lables: [] }, 400, "did you mean labels?"],
    ["pools", { id: "p", org_id: "acme", legacy_agents: true }, 422, "only the controller's file"],
    ["pools", { id: "../p", org_id: "acme" }, 400, "id"],
    ["orgs", { id: "o", github: "https://github.com/enterprises/x" }, 400, "is an enterprise"],
    ["orgs", { id: "o", github: "https://github.com/a", app: "nobody" }, 422, "which is not there"],
    ["orgs", { id: "acme", github: "https://github.com/a" }, 409, "PATCH it"],
    ["github-apps", { id: "b", app_id: 1 }, 400, ".key is missing"],
    ["github-apps", { id: "b", key: "db://a/b" }, 400, ".app_id or .client_id is missing"],
    ["github-apps", { id: "b", app_id: 1, key: "db://a/b", pace: { start: 9, max: 3 } }, 400, "at most .max"],
    ["github-apps", { id: "b", app_id: 1, key: "db://a/b", api_url: "http://far.example" }, 400, "https://"],
  ] as const)("POST %s %j → %i %s", async (path, body, status, told) => {
    const refused = await shared.api("POST", path, body);
    expect([refused.status, refused.body.error.message]).toEqual([status, expect.stringContaining(told)]);
  });

  it("a second App of the same GitHub must not make it unclear who serves a pool", async () => {
    const controller = await withApp();
    await controller.api("POST", "pools", { id: "free", runner_url: `${github.webUrl}/other` });
    const refused = await controller.api("POST", "github-apps", appBody({ id: "second" }));
    expect([refused.status, refused.body.error.message]).toEqual([
      422,
      expect.stringContaining("the pool free could be served by several GitHub Apps"),
    ]);
    expect((await controller.api("PATCH", "pools/free", { app: "acme" })).status).toBe(200);
    expect((await controller.api("POST", "github-apps", appBody({ id: "second" }))).status).toBe(201);
  });
});

it("an App whose key cannot be read is told of at once, and serves as soon as it can", async () => {
  const lab = await startController(nothing);
  const path = join(lab.dir, "later.pem");
  const controller = await startController({
    github: { apps: [{ id: "acme", api_url: github.url, app_id: 1234, key: `file://${path}` }] },
    pools: [{ id: "linux", runner_url: `${github.webUrl}/acme`, registration: "jit" }],
  });
  await waitFor("the alarm", () =>
    controller.lines.some(
      ({ msg, level }) => msg === "GitHub needs somebody's attention" && level === "error",
    ),
  );
  expect((await controller.api("POST", "github-apps/acme/check")).body.ok).toBe(false);
  await writeFile(path, key.privateKeyPem, { mode: 0o600 });
  await waitFor(
    "the key to be found",
    async () => (await controller.api("POST", "github-apps/acme/check")).body.ok === true,
    { everyMs: 250, timeoutMs: 20_000 },
  );
  expect((await askForGrant(controller, "vm-5", "linux")).status).toBe(200);
});

describe("beside a file", () => {
  it("its entries are shown and stay; their names are taken", async () => {
    const pem = join((await startController(nothing)).dir, "app.pem");
    await writeFile(pem, key.privateKeyPem, { mode: 0o600 });
    const controller = await startController({
      github: { apps: [{ id: "filed", api_url: github.url, app_id: 1234, key: `file://${pem}` }] },
      orgs: [{ id: "acme", github: `${github.webUrl}/acme` }],
      pools: [{ id: "linux", org_id: "acme", registration: "jit" }],
    });
    const app = await controller.api("GET", "github-apps/filed");
    expect(app.body).toMatchObject({ source: "file", created_at: null, key: `file://${pem}` });
    for (const path of ["github-apps/filed", "orgs/acme", "pools/linux"]) {
      for (const method of ["PATCH", "DELETE"]) {
        const refused = await controller.api(method, path, method === "PATCH" ? {} : undefined);
        expect([refused.status, refused.body.error.message]).toEqual([
          409,
          expect.stringContaining("controller's file"),
        ]);
      }
    }
    const clash = await controller.api("POST", "github-apps", appBody({ id: "filed" }));
    expect([clash.status, clash.body.error.message]).toEqual([
      409,
      expect.stringContaining("in the controller's file"),
    ]);
    expect((await askForGrant(controller, "vm-3", "linux")).status).toBe(200);
    // The file's organization may get a pool over the API.
    expect((await controller.api("POST", "pools", { id: "more", org_id: "acme" })).status).toBe(201);
    expect((await askForGrant(controller, "vm-4", "more")).status).toBe(200);
  });
});

it("lists are paged: everything once, in order, whatever the page", async () => {
  const controller = await withApp();
  const ids = Array.from({ length: 7 }, (_, i) => `p-${i}`);
  for (const id of [...ids].reverse()) await controller.api("POST", "pools", { id, org_id: "acme" });
  for (const limit of [1, 2, 3, 7, 100]) {
    const seen: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const page = await controller.api(
        "GET",
        `pools?limit=${limit}${cursor === "" ? "" : `&cursor=${cursor}`}`,
      );
      expect(page.body.pools.length).toBeLessThanOrEqual(limit);
      seen.push(...page.body.pools.map(({ id }: { id: string }) => id));
      cursor = page.body.next_cursor;
    }
    expect(seen).toEqual(ids);
  }
  for (const bad of ["cursor=YWJj", "limit=0", "cursor=b3JnczphY21l"])
    expect((await controller.api("GET", `pools?${bad}`)).status).toBe(400);
});

it("is for operators only, and sample mode has none of it", async () => {
  const lab = await startController(nothing);
  const agent = join(lab.dir, "agent");
  const operator = join(lab.dir, "operator");
  await writeFile(agent, "agent-token-0123456789");
  await writeFile(operator, "operator-token-0123456789");
  const flags = ["--agent-token-file", agent, "--operator-token-file", operator];
  const controller = await startController(nothing, { flags });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  for (const [method, path] of [
    ["GET", "github-apps"],
    ["POST", "github-apps"],
    ["POST", "github-apps/acme/check"],
    ["DELETE", "orgs/acme"],
    ["PATCH", "pools/linux"],
  ] as const) {
    const body = method === "PATCH" || path === "github-apps" ? {} : undefined;
    const json = method === "GET" ? undefined : body;
    expect((await controller.api(method, path, json)).status).toBe(401);
    expect((await controller.api(method, path, json, bearer("agent-token-0123456789"))).status).toBe(403);
  }
  const list = await controller.api("GET", "github-apps", undefined, bearer("operator-token-0123456789"));
  expect([list.status, list.body]).toEqual([200, { github_apps: [], next_cursor: null }]);
  const sample = await startController({}, { flags: ["--sample"] });
  expect((await sample.api("GET", "github-apps")).status).toBe(404);
});
