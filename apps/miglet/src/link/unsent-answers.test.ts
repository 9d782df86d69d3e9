import { silentLog, systemClock, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { CommandAnswer } from "@mig/protocol";
import { expect, test } from "vitest";
import { createUnsentAnswers } from "./unsent-answers.ts";

const answer = (n: number, success = true): CommandAnswer => ({
  commandId: `c-${n}`,
  stage: "result",
  success,
});

test("the newest answer of each of the last hundred commands waits, and goes when somebody is there", async () => {
  const sent: CommandAnswer[] = [];
  let isThere = false;
  const unsent = createUnsentAnswers({
    way: () => (isThere ? async (one) => void sent.push(one) : undefined),
    againMs: 10,
    log: silentLog,
    clock: systemClock,
  });
  for (let n = 0; n < 150; n += 1) await unsent.send(answer(n, false));
  await unsent.send(answer(149, true));
  isThere = true;
  await unsent.sendAll();
  expect(sent.map(({ commandId }) => commandId)).toEqual(
    Array.from({ length: 100 }, (_, n) => `c-${n + 50}`),
  );
  expect(sent.at(-1)?.success).toBe(true);
  unsent.close();
});

test("what fails is sent again by itself, not before the server's hint; what nobody wants is not", async () => {
  const tries: number[] = [];
  const unsent = createUnsentAnswers({
    way: () => async (one) => {
      if (one.commandId === "c-1") throw new MigError("not_found", "which command?");
      tries.push(performance.now());
      if (tries.length === 1) throw new MigError("rate_limited", "slow down", { retryAfterMs: 200 });
    },
    againMs: 10,
    log: silentLog,
    clock: systemClock,
  });
  await unsent.send(answer(1));
  await unsent.send(answer(2));
  await waitFor("the second try", () => tries.length === 2);
  const [first = 0, second = 0] = tries;
  expect(second - first).toBeGreaterThanOrEqual(195);
  unsent.close();
});
