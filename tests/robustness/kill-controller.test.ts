import { setTimeout as pause } from "node:timers/promises";
import { waitFor } from "@mig/kit";
import { afterEach, expect, it } from "vitest";
import { type House, openHouse } from "../lib/house.ts";
import { storedEvents } from "../lib/stored-events.ts";

/** R01: `kill -9` of the only controller, in the middle of everything. */
let house: House;
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});

const posters = 10;
const postsEach = 20;

it("loses nothing that it acknowledged, doubles nothing, and a job that ran through it is told to the end", async () => {
  house = await openHouse({ embedded: true });
  const vm = await house.startVm("vm-busy");
  await house.until("vm-busy", "state", "idle");
  await house.github.queueJob({ displayName: "long", overrides: { durationMs: 4_000 } });
  await house.until("vm-busy", "state", "running");

  // Ten VMs post twenty events each; each posts the next one only when the one before is acknowledged.
  const acknowledged = new Map<string, number>();
  let posted = 0;
  const poster = async (name: string): Promise<void> => {
    for (let seq = 1; seq <= postsEach; seq += 1) {
      await waitFor(
        `seq ${seq} of ${name}`,
        async () => {
          posted += 1;
          const answer = await fetch(`${house.url}/api/v1/vms/${name}/events`, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({
              type: "job_heartbeat",
              pool_id: "p",
              event_id: `${name}-${seq}`,
              seq,
              incarnation: "b1",
            }),
          });
          if (answer.status === 200) acknowledged.set(name, seq);
          return answer.status === 200;
        },
        { timeoutMs: 20_000 },
      );
      await pause(5);
    }
  };
  const posting = Promise.all(Array.from({ length: posters }, (_, i) => poster(`vm-post-${i}`)));
  await waitFor("half of the posts", () => posted > (posters * postsEach) / 2);
  house.controller.kill("SIGKILL");
  await house.controller.ended();
  const before = new Map(acknowledged);
  await house.restartController();
  await posting;

  await house.until("vm-busy", "state", "terminated", 20_000);
  expect(await vm.agent.ended()).toBe(0);
  const warnings = house.controller.lines.filter(
    (line) => line["msg"] === "a VM is written off" || line["msg"] === "a VM is unreachable",
  );
  expect(warnings.filter((line) => line["vm_id"] === "vm-busy")).toEqual([]);

  const stored = await storedEvents(house);
  for (let i = 0; i < posters; i += 1) {
    const name = `vm-post-${i}`;
    const seqs = stored.filter((event) => event.vmId === name).map((event) => event.seq);
    expect(seqs, name).toEqual(Array.from({ length: postsEach }, (_, n) => n + 1));
    expect(before.get(name) ?? 0).toBeLessThanOrEqual(postsEach);
  }
  expect([...before.values()].some((seq) => seq < postsEach)).toBe(true);
  const told = stored.filter((event) => event.vmId === "vm-busy").map((event) => event.type);
  expect(told.filter((type) => type === "job_completed")).toHaveLength(1);
  expect(told.at(-1)).toBe("vm_terminated");
  expect((await house.github.jobs()).map((job) => job.result)).toEqual(["Succeeded"]);
});
