import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { redactText, silentLog, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type IdentityKeeper, openIdentity } from "../src/boot/identity/open-identity.ts";
import { readSettings } from "../src/boot/settings.ts";
import { createControllerClock } from "../src/link/controller-clock.ts";
import { createTlsSource } from "../src/link/tls-material.ts";
import { type JoinLab, startJoinLab } from "./join-lab.ts";

let dir: string;
let lab: JoinLab;
const opened: IdentityKeeper[] = [];
beforeEach(async () => {
  [dir, lab] = await Promise.all([mkdtemp(join(tmpdir(), "mig-identity-")), startJoinLab()]);
});
afterEach(async () => {
  for (const identity of opened.splice(0)) identity.close();
  await lab.close();
  await rm(dir, { recursive: true, force: true });
});

const told: string[] = [];
async function open(more: Record<string, string> = { MIGLET_JOIN_TOKEN: "mgj_secret-of-enrolment" }) {
  told.length = 0;
  const { settings, problems } = await readSettings({
    flags: { settings: new Map() },
    environment: {
      MIGLET_VM_ID: "vm-1",
      MIGLET_CONTROLLER_ENDPOINT: lab.url,
      MIGLET_STATE_DIR: dir,
      MIGLET_CONTROLLER_RETRY_INITIAL_BACKOFF: "5ms",
      ...more,
    },
  });
  if (settings === undefined) throw new Error(JSON.stringify(problems));
  const identity = await openIdentity({
    settings,
    tls: createTlsSource({}),
    controllerClock: createControllerClock({}),
    onContradiction: (message) => void told.push(message),
    log: silentLog,
  });
  opened.push(identity);
  return identity;
}
const calls = (): string => lab.asked.map(({ call }) => call).join(" ");
const failureOf = (identity: IdentityKeeper): Promise<unknown> =>
  identity.bearer().catch((error: unknown) => error);

describe("a VM that joins", () => {
  it("asks nobody before somebody needs its token, and knows its pool from then on", async () => {
    const identity = await open();
    expect([identity.poolId(), identity.orgId(), calls()]).toEqual(["", undefined, ""]);
    await identity.settled();
    expect(await identity.bearer()).toBe("token-2");
    expect([identity.poolId(), identity.orgId(), calls()]).toEqual(["pool-a", "acme", "nonce join"]);
    expect(lab.asked[1]?.body).toMatchObject({
      method: "token",
      vm_id: "vm-1",
      token: "mgj_secret-of-enrolment",
      nonce: "nonce-1",
    });
    expect(redactText("a token-2 and mgj_secret-of-enrolment")).not.toMatch(/token-2|secret-of/);
  });

  it("renews after a restart, without the enrolment token, and knows its pool at once", async () => {
    await (await open()).bearer();
    const again = await open({ MIGLET_JOIN_METHOD: "token" });
    expect([again.poolId(), again.orgId()]).toEqual(["pool-a", "acme"]);
    await again.bearer();
    expect(calls()).toBe("nonce join nonce renew");
    expect(lab.asked[3]?.body).not.toHaveProperty("token");
  });

  it("whose first answer was lost, for good or by a crash, asks for it with its key", async () => {
    lab.answer = {};
    expect(await failureOf(await open())).toMatchObject({ code: "controller_unreachable" });
    lab.answer = undefined;
    const again = await open({ MIGLET_JOIN_METHOD: "token" });
    expect([await again.bearer(), again.poolId()]).toEqual(["token-4", "pool-a"]);
    expect(calls()).toBe("nonce join nonce renew");
  });

  it("joins again where its key is not known any more, and says both when that is refused too", async () => {
    await (await open()).bearer();
    lab.refuse("renew", [401, "unauthenticated"]);
    await (await open()).bearer();
    expect(calls()).toBe("nonce join nonce renew nonce join");
    lab.refuse("renew", [403, "forbidden"]);
    lab.refuse("join", [403, "forbidden"]);
    expect(await failureOf(await open())).toMatchObject({
      code: "forbidden",
      message: expect.stringMatching(/the join is forbidden; .*the renew is forbidden/),
    });
  });

  it("without an enrolment token says what is missing, or why it was not renewed", async () => {
    expect(await failureOf(await open({ MIGLET_JOIN_METHOD: "token" }))).toMatchObject({
      code: "forbidden",
      message: expect.stringContaining("set join.token_path"),
    });
    lab.refuse("renew", [401, "unauthenticated"]);
    await (await open()).bearer();
    lab.refuse("renew", [403, "forbidden"]);
    expect(await failureOf(await open({ MIGLET_JOIN_METHOD: "token" }))).toMatchObject({
      code: "forbidden",
      message: expect.stringContaining("the renew is forbidden"),
    });
  });

  it("does not spend its enrolment token because the controller is ill", async () => {
    await (await open()).bearer();
    lab.refuse("renew", [503, "storage_unavailable"]);
    const identity = await open();
    expect(await failureOf(identity)).toMatchObject({ code: "storage_unavailable" });
    expect(calls()).toBe("nonce join nonce renew");
  });

  it("waits for a file that is not there yet", async () => {
    const path = join(dir, "late");
    const identity = await open({ MIGLET_JOIN_TOKEN_PATH: path });
    expect(await failureOf(identity)).toMatchObject({
      code: "settings_invalid",
      message: expect.stringContaining("join.token_path"),
    });
    await writeFile(path, "mgj_late-but-here\n", { mode: 0o600 });
    // Asked as the links ask, again and again.
    const token = await waitFor("the token", () => identity.bearer().catch(() => undefined));
    expect(token).toBe("token-2");
    expect(lab.asked[1]?.body).toMatchObject({ token: "mgj_late-but-here" });
  });
});

describe("what a refused join means", () => {
  it.each([
    [409, "conflict", "forbidden"],
    [422, "refused", "forbidden"],
    [400, "invalid_request", "forbidden"],
    [403, "forbidden", "forbidden"],
    [401, "unauthenticated", "unauthenticated"],
    [404, "not_found", "controller_refused"],
    [429, "rate_limited", "rate_limited"],
    [503, "storage_unavailable", "storage_unavailable"],
  ])("%i %s is %s", async (status, code, meaning) => {
    lab.refuse("join", [status, code]);
    expect(await failureOf(await open())).toMatchObject({ code: meaning });
  });

  it.each([
    [{ access_token: "", expires_in: 900 }, "gives no token"],
    [{ access_token: "a\nb", expires_in: 900 }, "gives no token"],
    [{ access_token: "t", expires_in: 0 }, "for how long"],
    [{ access_token: "t", expires_in: 900, pool_id: "../x" }, "which pool"],
    [{ access_token: "t", expires_in: 900, vm_id: "vm-2" }, "another VM"],
    [[], "another VM"],
  ])("an answer that makes no sense is none: %j", async (answer, why) => {
    lab.answer = Array.isArray(answer) ? answer : { vm_id: "vm-1", pool_id: "p", org_id: "o", ...answer };
    const failure = await failureOf(await open());
    expect(failure).toBeInstanceOf(MigError);
    expect(String(failure)).toContain(why);
  });
});

it("settings that say another pool or organization are told to the life; those that agree are not", async () => {
  const token = { MIGLET_JOIN_TOKEN: "mgj_x" };
  await (await open({ ...token, MIGLET_POOL_ID: "pool-a", MIGLET_ORG_ID: "acme" })).bearer();
  expect(told).toEqual([]);
  const identity = await open({ ...token, MIGLET_POOL_ID: "pool-b", MIGLET_ORG_ID: "other" });
  await identity.bearer();
  expect(told).toEqual([expect.stringMatching(/pool_id is pool-b.*pool-a; org_id is other.*acme/)]);
  // What the agent then says, it says as what it is.
  expect([identity.poolId(), identity.orgId()]).toEqual(["pool-a", "acme"]);
});

it("a token that was given wins: nobody is asked, and no key is made", async () => {
  const given = { MIGLET_CONTROLLER_AUTH_TOKEN: "static-token", MIGLET_POOL_ID: "pool-s" };
  const identity = await open({ ...given, MIGLET_JOIN_TOKEN: "mgj_x" });
  expect([await identity.bearer(), identity.poolId(), calls()]).toEqual(["static-token", "pool-s", ""]);
});
