import { MigError } from "@mig/lifecycle";
import { type GithubCall, type GithubFault, githubCalls, githubFaults, startGithub } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines } from "./engines.ts";
import { dumpOf, faultKey, openFaultDesk } from "./open-fault-desk.ts";

/** R08: whatever GitHub answers, and to whichever call, a VM has its runner soon after or hears the right error. */
const recoverWithinMs = 5_000;
const troubleMs = 1_000;
const atOnce = 16;
let cases = 0;

type Registration = "jit" | "token";
const matrix: [GithubCall, Registration][] = [
  ["installation", "jit"],
  ["token", "jit"],
  ["grant", "jit"],
  ["grant", "token"],
];

/** What an agent must hear of what lasts: all of them say "a person must act". */
const lastingCode = (name: string): string => {
  if (name.startsWith("401")) return "github_unauthorized";
  return name.startsWith("404") ? "github_not_installed" : "github_forbidden";
};

describeOnEngines("grants while GitHub fails", (engine) => {
  // Nothing of this depends on the engine, and PGlite has one connection for all.
  const test = it.skipIf(engine.name === "PGlite");
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  const told: string[] = [];
  const secrets = new Set<string>();

  beforeAll(async () => {
    if (engine.name === "PGlite") return;
    database = await engine.create();
    store = await database.open();
  });
  afterAll(async () => {
    await store?.[Symbol.asyncDispose]();
    await database?.drop();
  });

  /** Nothing when it went as it must; else what went wrong. */
  async function tryOne(entry: GithubFault, call: GithubCall, registration: Registration): Promise<string> {
    cases += 1;
    await using github = await startGithub({ publicKeyPem: faultKey.publicKeyPem, appId: 1234 });
    await github.addFault({ ...entry.fault, ...githubCalls[call] });
    const write = (line: string) => void told.push(line);
    await using desk = openFaultDesk({ store, github, app: `case-${cases}`, registration, write });
    const take = async (holdMs: number): Promise<MigError | string> => {
      try {
        const grant = await desk.take(holdMs);
        secrets.add(grant.jitConfig ?? grant.registrationToken ?? "");
        if (registration === "token" && (grant.expiresAtMs ?? 0) < Date.now()) return "a dead token";
        return "granted";
      } catch (error) {
        told.push(String(error), JSON.stringify(error));
        return error instanceof MigError ? error : `no MigError: ${String(error)}`;
      }
    };
    const first = await take(troubleMs);
    if (entry.kind === "for good") {
      const last = isWaiting(first) ? await take(recoverWithinMs) : first;
      const code = typeof last === "string" ? last : last.code;
      return lastingCode(entry.name) === code ? "" : code;
    }
    if (first === "granted") return "";
    if (typeof first === "string") return first;
    if (!isWaiting(first)) return first.code;
    if ((first.retryAfterMs ?? 0) < 1_000) return "nobody said when to come back";
    await github.clearFaults();
    // What GitHub asked for is obeyed; the VM knows how long that is.
    const { tooEarly } = await github.traffic();
    if (tooEarly > 0) return "came back too early";
    if (entry.kind === "limit" && (first.retryAfterMs ?? 0) > 10_000) return "";
    const last = await take(recoverWithinMs);
    if ((await github.traffic()).tooEarly > 0) return "came back too early";
    if (last === "granted") return "";
    return typeof last === "string" ? last : `stuck: ${last.message}`;
  }

  test.each(matrix)(
    "each fault of the call %s, for a %s, ends in a runner or in the right error",
    async (call, registration) => {
      // A hundred megabytes keep this process busy, so that the others would see nothing but a time limit: last.
      const isBig = ({ fault }: GithubFault) => fault.deliver === "huge" || fault.deliver === "bomb";
      const todo = githubFaults
        .filter(({ on }) => on.includes(call))
        .sort((a, b) => Number(isBig(a)) - Number(isBig(b)));
      const wrong: string[] = [];
      const worker = async () => {
        for (let entry = todo.shift(); entry !== undefined; entry = todo.shift()) {
          const problem = await tryOne(entry, call, registration);
          if (problem !== "") wrong.push(`${entry.name}: ${problem}`);
        }
      };
      await Promise.all(Array.from({ length: atOnce }, worker));
      expect(wrong).toEqual([]);
    },
    120_000,
  );

  test("no secret is in a log line, an error, an alarm or the database", async () => {
    const all = `${told.join("\n")}\n${await dumpOf(store)}`;
    expect(secrets.size).toBeGreaterThan(20);
    for (const secret of secrets) expect(all.includes(secret)).toBe(false);
    const [, line = ""] = faultKey.privateKeyPem.split("\n");
    expect(all.includes(line)).toBe(false);
    expect(all).not.toMatch(/ghs_|PRIVATE KEY|x-injected|\bA[0-9A-F]{28}\b|eyJ[\w-]{20}/);
  });
});

function isWaiting(outcome: MigError | string): boolean {
  return outcome instanceof MigError && outcome.code === "github_rate_limited";
}
