import { silentLog } from "@mig/kit";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import { describe, expect, it } from "vitest";
import { createAccessToken, type FreshToken } from "../src/link/access-token.ts";
import { FakeClock } from "./fake-clock.ts";

const lifeMs = 900_000;

function openLab() {
  const clock = new FakeClock();
  const lab = {
    clock,
    asked: 0,
    /** What the next requests meet, in order; then all goes well. */
    failures: [] as (ErrorCode | MigError)[],
    /** Called while a request is under way. */
    meanwhile: async (): Promise<void> => {},
    access: createAccessToken({
      async obtain(): Promise<FreshToken> {
        lab.asked += 1;
        const n = lab.asked;
        await lab.meanwhile();
        const failure = lab.failures.shift();
        if (failure !== undefined)
          throw failure instanceof MigError ? failure : new MigError(failure, `the answer was ${failure}`);
        return { accessToken: `token-${n}`, lifeMs };
      },
      retryFirstMs: 1_000,
      retryCapMs: 30_000,
      log: silentLog,
      clock,
    }),
  };
  return lab;
}

const codeOf = (error: unknown): unknown => (error instanceof MigError ? error.code : error);

describe("a token", () => {
  it("is asked for once, whoever needs it, and then given out", async () => {
    const lab = openLab();
    const { access } = lab;
    expect([lab.asked, lab.clock.timers()]).toEqual([0, []]);
    expect(await Promise.all([access.bearer(), access.bearer(), access.bearer()])).toEqual(
      Array(3).fill("token-1"),
    );
    expect([await access.bearer(), lab.asked]).toEqual(["token-1", 1]);
  });

  it("is renewed at two thirds of its life, for ever, though nobody asks and the wall clock is wrong", async () => {
    const lab = openLab();
    await lab.access.bearer();
    expect(lab.clock.timers()).toEqual([600_000]);
    await lab.clock.pass(599_999);
    expect(lab.asked).toBe(1);
    await lab.clock.pass(1);
    expect([lab.asked, await lab.access.bearer()]).toEqual([2, "token-2"]);
    await lab.clock.pass(6_000_000);
    expect([lab.asked, lab.clock.timers()]).toEqual([12, [600_000]]);
  });

  it("is as old as the question for it, not as the answer", async () => {
    const lab = openLab();
    lab.meanwhile = () => lab.clock.pass(20_000);
    await lab.access.bearer();
    expect(lab.clock.timers()).toEqual([580_000]);
  });

  it("is given out while it is good, however often its renewal fails", async () => {
    const lab = openLab();
    await lab.access.bearer();
    lab.failures = Array(100).fill("controller_unreachable");
    await lab.clock.pass(894_000);
    expect(lab.asked).toBeGreaterThan(10);
    expect(await lab.access.bearer()).toBe("token-1");
    await lab.clock.pass(2_000);
    const asked = lab.asked;
    expect(await lab.access.bearer().catch(codeOf)).toBe("controller_unreachable");
    expect(lab.asked - asked).toBeLessThan(2);
    lab.failures = [];
    await lab.clock.pass(40_000);
    expect(await lab.access.bearer()).toMatch(/^token-\d+$/);
    expect(lab.clock.timers().length).toBe(1);
  });
});

describe("a request that fails", () => {
  it("is not made again before its time, and says when that is", async () => {
    const lab = openLab();
    lab.failures = [new MigError("rate_limited", "wait", { retryAfterMs: 7_000 })];
    await expect(lab.access.bearer()).rejects.toMatchObject({ code: "rate_limited" });
    const held = await lab.access.bearer().catch((error: unknown) => error);
    expect(codeOf(held)).toBe("rate_limited");
    expect((held as MigError).retryAfterMs).toBeGreaterThanOrEqual(7_000);
    expect(lab.asked).toBe(1);
    await lab.clock.pass(7_701);
    expect(await lab.access.bearer()).toBe("token-2");
  });

  it("for a refusal waits longer, and a forbidden one ends the old token too", async () => {
    const lab = openLab();
    await lab.access.bearer();
    lab.failures = ["forbidden", "forbidden"];
    await lab.clock.pass(600_000);
    expect(await lab.access.bearer().catch(codeOf)).toBe("forbidden");
    expect(lab.asked).toBe(2);
    // The window of the first try ends after 30 s, that of the second after 60 s more.
    await lab.clock.pass(30_000);
    expect(await lab.access.bearer().catch(codeOf)).toBe("forbidden");
    await lab.clock.pass(90_000);
    expect(await lab.access.bearer()).toBe("token-4");
  });

  it("as unauthenticated leaves the old token until its end", async () => {
    const lab = openLab();
    await lab.access.bearer();
    lab.failures = Array(9).fill("unauthenticated");
    await lab.clock.pass(700_000);
    expect(await lab.access.bearer()).toBe("token-1");
  });
});

describe("the controller", () => {
  it("that does not accept a token gets another one, but not for one that is seconds old", async () => {
    const lab = openLab();
    await lab.access.bearer();
    lab.access.doubt();
    expect(await lab.access.bearer()).toBe("token-1");
    await lab.clock.pass(5_000);
    lab.access.doubt();
    expect(await lab.access.bearer()).toBe("token-2");
    expect(lab.clock.timers()).toEqual([600_000]);
  });

  it("that ends a stream with its token gets the newer one, which is there already", async () => {
    const lab = openLab();
    const first = await lab.access.bearer();
    await lab.clock.pass(890_000);
    lab.access.outdate(first);
    expect([await lab.access.bearer(), lab.asked]).toEqual(["token-2", 2]);
  });

  it("and where there is none yet, one is asked for first, also right after a failure", async () => {
    const lab = openLab();
    const first = await lab.access.bearer();
    lab.failures = ["controller_unreachable"];
    await lab.clock.pass(600_000);
    expect(await lab.access.bearer()).toBe(first);
    lab.access.outdate(first);
    expect([await lab.access.bearer(), lab.access.newest()]).toEqual(["token-3", "token-3"]);
  });
});

it("nothing is asked after the end", async () => {
  const lab = openLab();
  await lab.access.bearer();
  lab.access.close();
  await lab.clock.pass(10_000_000);
  expect([lab.asked, lab.clock.timers()]).toEqual([1, []]);
});
