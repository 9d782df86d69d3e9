import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/** docs/operate/api.md: every endpoint of operators is in it, and every example of it works, from top to bottom. */
const page = readFileSync(new URL("../docs/operate/api.md", import.meta.url), "utf8");
const run = promisify(execFile);
const hasCurl = await run("curl", ["--version"]).then(
  () => true,
  () => false,
);
let house: House;
let key: string;
beforeAll(async () => {
  house = await openHouse({ join: true });
  await house.startVm("vm-1");
  await house.until("vm-1", "state", "idle");
  key = String((await house.api("POST", "api-keys", { name: "docs", role: "admin" })).body["key"]);
});
afterAll(() => house[Symbol.asyncDispose]());

it("names every endpoint of operators, and no other", async () => {
  const document = (await (await fetch(`${house.url}/api/v1/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { tags?: string[] }>>;
  };
  const ours = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { tags }]) => tags?.includes("operator"))
      .map(([method]) => `${method.toUpperCase()} ${path}`),
  );
  const named = [...page.matchAll(/`((?:GET|POST|PUT|PATCH|DELETE) \/api\/v1\/[^`]+)`/g)].map(
    ([, name = ""]) => name,
  );
  expect([...new Set(named)].filter((name) => name !== "GET /api/v1/openapi.json").sort()).toEqual(
    ours.sort(),
  );
});

it.skipIf(!hasCurl)("has examples that work (curl)", async () => {
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text = ""]) => text);
  expect(blocks.length).toBeGreaterThan(30);
  const script = blocks.map((text, n) => `echo "== ${n}"\n${text}`).join("\n");
  const env = {
    ...{ PATH: process.env["PATH"], MIG_URL: house.url, MIG_API_KEY: key },
    ...{ GITHUB_URL: house.github.webUrl, KEY_FILE: join(house.dir, "app.pem") },
  };
  const { stdout } = await run("bash", ["--norc", "-euo", "pipefail", "-c", script], { env }).catch(
    (error: { stdout?: string; stderr?: string }) => {
      const { stdout: said = "", stderr = "" } = error;
      const at = Number(said.split("== ").at(-1)?.split("\n")[0]);
      throw new Error(`${blocks[at]}\nsaid: ${said.slice(-500)} ${stderr.slice(-500)}`, { cause: error });
    },
  );
  expect(stdout).toContain(`== ${blocks.length - 1}`);
  // An example that finds nothing shows nothing.
  expect(stdout).not.toMatch(/"(?:vms|events|commands|heartbeats|pools|join_tokens|entries)":\[\]/);
});
