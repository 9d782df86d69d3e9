import { request as httpRequest } from "node:http";
import { waitFor } from "@mig/kit";
import {
  badAddresses,
  connectGithub,
  type Fault,
  type Github,
  type GithubCall,
  githubCalls,
  githubFaults,
} from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Seen, seenOf } from "./fault-sights.ts";
import { appJwt, Lab } from "./lab.ts";

/** What a caller gets to see of each fault, on the wire. */
let lab: Lab;
let github: Github;
let token: string;
let names = 0;

beforeAll(async () => {
  lab = await Lab.open();
  github = lab.github;
  token = await lab.installationToken();
});
afterAll(() => lab.close());

async function call(which: GithubCall, timeoutMs = 250): Promise<Seen> {
  names += 1;
  const jit = { name: `vm-${names}`, runner_group_id: 1, labels: ["x"] };
  const calls: Record<GithubCall, readonly [method: string, path: string, body?: object]> = {
    app: ["GET", "/app"],
    installation: ["GET", "/orgs/acme/installation"],
    token: ["POST", "/app/installations/1/access_tokens", {}],
    grant: ["POST", "/orgs/acme/actions/runners/generate-jitconfig", jit],
    groups: ["GET", "/orgs/acme/actions/runner-groups"],
    list: ["GET", "/orgs/acme/actions/runners"],
    remove: ["DELETE", "/orgs/acme/actions/runners/1"],
  };
  const [method, path, body] = calls[which];
  const bearer = which === "app" || which === "installation" || which === "token" ? appJwt({}) : token;
  try {
    const response = await fetch(github.url + path, {
      method,
      redirect: "manual",
      signal: AbortSignal.timeout(timeoutMs),
      headers: { authorization: `Bearer ${bearer}`, "user-agent": "mig-tests" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  } catch (error) {
    return { error: reasonOf(error) };
  }
}

/** `fetch` keeps connections and learns one by one that they were cut. */
async function forgetConnections(): Promise<void> {
  await waitFor("the kept connections to be given up", async () => {
    return !/UND_ERR_SOCKET|ECONNRESET/.test((await call("app", 50)).error ?? "");
  });
}

function reasonOf(error: unknown): string {
  let inner = error;
  while (inner instanceof Error && inner.cause !== undefined) inner = inner.cause;
  if (!(inner instanceof Error)) return String(inner);
  return "code" in inner && typeof inner.code === "string" ? inner.code : inner.name + inner.message;
}

describe("faults by name", () => {
  it("have a name, and an expectation here, each", () => {
    expect(githubFaults.map(({ name }) => name).sort()).toEqual(Object.keys(seenOf).sort());
  });

  it.each(githubFaults.map((entry) => [entry.name, entry] as const))("%s", async (name, { fault, on }) => {
    const which = on.includes("grant") ? "grant" : (on[0] ?? "app");
    const before = (await github.runners()).length;
    await github.addFault({ ...fault, ...githubCalls[which] });
    if (fault.connect !== undefined) await forgetConnections();
    const isBig = fault.deliver === "huge" || fault.deliver === "bomb";
    seenOf[name]?.(await call(which, isBig ? 30_000 : undefined));
    // A made-up answer, or none: nothing happened. A real one that came badly: it did.
    const isReal =
      fault.status === undefined && fault.connect === undefined && !fault.hang && fault.drop !== "before";
    if (which === "grant") expect((await github.runners()).length - before).toBe(isReal ? 1 : 0);
    await github.clearFaults();
    const after = await call(which);
    expect(after.status).toBe(which === "grant" || which === "token" ? 201 : 200);
  });

  it.each(Object.keys(githubCalls) as GithubCall[])("strike the call they are for: %s", async (which) => {
    for (const other of Object.keys(githubCalls) as GithubCall[]) {
      await github.addFault({ status: 418, ...githubCalls[which] });
      expect((await call(other)).status === 418).toBe(other === which);
      await github.clearFaults();
    }
  });

  it("last as often as they say, until they are cleared when they say so", async () => {
    const fault: Fault = { ...githubCalls.app, status: 500, times: 2 };
    await github.addFault(fault);
    expect([(await call("app")).status, (await call("app")).status, (await call("app")).status]).toEqual([
      500, 500, 200,
    ]);
    const other = connectGithub(github.url);
    await other.addFault({ ...fault, times: Number.POSITIVE_INFINITY });
    for (let i = 0; i < 5; i += 1) expect((await call("app")).status).toBe(500);
    await other.clearFaults();
    expect((await call("app")).status).toBe(200);
  });

  it.each(["refused", "hang"] as const)("connect: %s ends by itself, on the same port", async (connect) => {
    await github.addFault({ path: "", connect, forMs: 300 });
    await forgetConnections();
    expect((await call("app", 100)).error).toMatch(connect === "refused" ? /ECONNREFUSED/ : /TimeoutError/);
    await waitFor("GitHub to be back", async () => (await call("app")).status === 200);
  });

  it("a byte a second is a byte a second", async () => {
    await github.addFault({ ...githubCalls.app, deliver: "trickle" });
    const bytes = await new Promise<number>((resolve, reject) => {
      let seen = 0;
      const headers = { authorization: `Bearer ${appJwt({})}`, "user-agent": "mig-tests" };
      const asked = httpRequest(`${github.url}/app`, { headers }, (response) => {
        response.on("data", (chunk: Buffer) => {
          seen += chunk.length;
          if (seen < 2) return;
          resolve(seen);
          asked.destroy();
        });
      });
      asked.on("error", reject).end();
    });
    expect(bytes).toBe(2);
  });
});

describe("bad addresses", () => {
  it.each(badAddresses.map((address) => [address.name, address] as const))(
    "%s",
    async (_name, { open, reason }) => {
      const bad = await open();
      try {
        const asked = fetch(`${bad.apiUrl}/app`, { signal: AbortSignal.timeout(500) });
        await expect(
          asked.catch((error: unknown) => Promise.reject(new Error(reasonOf(error)))),
        ).rejects.toThrow(reason);
      } finally {
        await bad.close();
      }
    },
  );
});
