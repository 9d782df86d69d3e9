import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { createAppKey, freePort } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { server } from "../../apps/controller/tests/directory-server.ts";
import { Machine } from "../../apps/controller/tests/identity-lab.ts";
import { call, type Reply } from "../../apps/controller/tests/open-test-listeners.ts";
import { spawnProgram, stopAll } from "../lib/spawn.ts";

/** One enrolment token, one VM: also when dozens of machines show it at once, to two controllers (issue 5). */
const tokensMax = 50;
const racersEach = 32;
const operatorToken = "operator-token-0123456789";

describe.skipIf(!server.available)("an enrolment race on a PostgreSQL server", () => {
  let dir: string;
  let urls: string[];
  let database: Awaited<ReturnType<typeof server.create>>;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "mig-race-"));
    database = await server.create();
    await writeFile(join(dir, "app.pem"), createAppKey().privateKeyPem, { mode: 0o600 });
    await writeFile(join(dir, "operator"), operatorToken, { mode: 0o600 });
    const config = {
      github: { app_id: 7, private_key_file: join(dir, "app.pem") },
      pools: [{ id: "pool-a", org_id: "acme", runner_url: "https://github.com/acme" }],
      operator_token_file: join(dir, "operator"),
    };
    await writeFile(join(dir, "mig.yaml"), JSON.stringify(config));
    urls = await Promise.all([startController(), startController()]);
  });
  afterAll(async () => {
    await stopAll();
    await database.drop();
    await rm(dir, { recursive: true, force: true });
  });

  async function startController(): Promise<string> {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const controller = spawnProgram("apps/controller/bin/mig-controller.js", [
      ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", "off", "--config", join(dir, "mig.yaml")],
      ...["--data-dir", join(dir, "data"), "--database-url", database.url],
    ]);
    await waitFor(
      "the controller to answer",
      () => {
        if (controller.exitCode() !== undefined) throw new Error(JSON.stringify(controller.lines.at(-1)));
        return fetch(`${url}/livez`).then((answer) => answer.ok);
      },
      { timeoutMs: 40_000 },
    );
    return url;
  }

  const api = (method: string, path: string, json?: unknown): Promise<Reply> =>
    call(`${urls[0]}/api/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${operatorToken}` },
      ...(json === undefined ? {} : { json }),
    });

  it("50 tokens, 32 racers for each, two processes: 50 joins", async () => {
    const won: string[] = [];
    const statuses = new Map<number, number>();
    for (let n = 0; n < tokensMax; n += 1) {
      const { token } = (await api("POST", "join-tokens", { pool_id: "pool-a" })).body;
      const racers = Array.from(
        { length: racersEach },
        // Half of them want to be the same VM, the others each another one.
        (_, i) => new Machine(urls[i % urls.length] ?? "", i % 2 === 0 ? `vm-${n}` : `vm-${n}-${i}`),
      );
      const replies = await Promise.all(racers.map((machine) => machine.join(token)));
      for (const { status } of replies) statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const winners = replies.filter(({ status }) => status === 200);
      expect(winners).toHaveLength(1);
      won.push(winners[0]?.body.vm_id);
    }
    expect(won).toHaveLength(tokensMax);
    expect(new Set(won).size).toBe(tokensMax);
    // Whoever lost was told that the token is used up, or that another key has the name.
    expect([...statuses.keys()].filter((status) => ![200, 403, 409].includes(status))).toEqual([]);
    const { join_tokens: tokens } = (await api("GET", "join-tokens")).body;
    expect(tokens.every((token: { uses: number }) => token.uses === 1)).toBe(true);
    for (const org of ["-", "acme"])
      expect((await api("GET", `audit/verify?org_id=${org}`)).body).toMatchObject({ ok: true });
  });
});
