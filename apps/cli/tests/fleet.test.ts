import { spawn } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../../controller/tests/identity-lab.ts";
import { bin, openHome } from "./migctl-lab.ts";
import { type AgentCall, joinVms } from "./vms-lab.ts";

/** `migctl fleet` against a whole controller; the VMs are a poll and an answer. */
let lab: IdentityLab;
let env: Record<string, string>;
const vmIds = ["vm-1", "vm-2", "vm-3"];
let agent: AgentCall;
const stops: (() => Promise<void>)[] = [];
const { run } = openHome();

beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
  env = { MIG_URL: lab.url, MIG_API_KEY: await lab.key({ role: "operator" }) };
  agent = await joinVms(lab, vmIds);
  for (const vmId of vmIds) await agent(vmId, "heartbeat", {});
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

/** Answers whatever the VMs are told, until `isOver`. */
async function obey(isOver: () => boolean, fails: readonly string[] = []): Promise<void> {
  await waitFor("the order's end", async () => {
    for (const vmId of vmIds)
      for (const { id } of (await agent(vmId, "commands")).body.commands)
        await agent(vmId, `commands/${id}/ack`, {
          stage: "result",
          success: !fails.includes(vmId),
          message: "the disk is full",
        });
    return isOver();
  });
}

async function runObeyed(args: string[], fails: readonly string[] = [], file?: string) {
  let isOver = false;
  const said = run(args, { env, ...(file === undefined ? {} : { file }) }).finally(() => {
    isOver = true;
  });
  await obey(() => isOver, fails);
  return said;
}

it("waits, a line for each change, and ends with 0 when every VM did it", async () => {
  const { code, out, err } = await runObeyed([
    ...["fleet", "command", "set_log_level", "--pool", "pool-a", "--parameters", '{"level":"warn"}'],
    ...["--max-parallel", "2", "--wait"],
  ]);
  expect([code, err, out]).toEqual([0, "", expect.stringMatching(/^done 3\/3, 0 at work$/m)]);
  for (const sign of ["\r", "\u001b"]) expect(out).not.toContain(sign);
});

it("ends with 1 when a VM failed, and says which and why; --json is one document", async () => {
  const args = ["fleet", "drain", "--vms", "vm-1,vm-2", "--wait"];
  const { code, out, err } = await runObeyed(args, ["vm-2"]);
  expect([code, err, out]).toEqual([1, "", expect.stringMatching(/vm-2 +failed +the disk is full/)]);
  const told = await runObeyed([...args, "--json"], ["vm-2"]);
  expect([told.code, JSON.parse(told.out)]).toMatchObject([1, { state: "done", progress: { failed: 1 } }]);
});

it("in a narrow terminal one line is written over", async () => {
  const line = `stty cols 40; '${process.execPath}' '${bin}' fleet drain --vms vm-3 --wait`;
  const { code, out, err } = await runObeyed(["-qec", line, "/dev/null"], [], "script");
  expect([code, err, out]).toEqual([0, "", expect.stringMatching(/\rdone 1\/1, 0 at work/)]);
  for (const one of out.split(/[\r\n]+/)) expect(one.length).toBeLessThan(40);
});

it("top: one frame where nobody looks; in a narrow terminal a live one, until q", async () => {
  const piped = await run(["top"], { env });
  expect([piped.code, piped.out]).toEqual([0, expect.stringMatching(/^3 VMs: .*\n[\s\S]*vm-1 /)]);
  expect(JSON.parse((await run(["top", "--json"], { env })).out).vms).toHaveLength(3);
  const line = `stty cols 40 rows 12; '${process.execPath}' '${bin}' top`;
  const child = spawn("script", ["-qec", line, "/dev/null"], { env: { PATH: process.env["PATH"], ...env } });
  let shown = "";
  child.stdout.on("data", (data: Buffer) => {
    shown += data.toString();
  });
  await waitFor("the frame", () => shown.includes("q quits"));
  child.stdin.write("q");
  await waitFor("the end", () => child.exitCode !== null);
  // The screen that was there before is back.
  expect([child.exitCode, shown]).toEqual([0, expect.stringContaining("\u001b[?1049l")]);
  for (const one of stripVTControlCharacters(shown).split(/\r?\n/))
    expect(one.length).toBeLessThanOrEqual(40);
});

it("shows every VM of an order, by state as well", async () => {
  const { id } = JSON.parse(
    (await run(["fleet", "drain", "--pool", "pool-a", "--max-parallel", "1", "--json"], { env })).out,
  );
  const shown = await run(["fleet", "show", id, "--targets"], { env });
  expect([shown.code, shown.out]).toEqual([
    0,
    expect.stringMatching(/vm-1 +sent[\s\S]*vm-2 +pending[\s\S]*vm-3/),
  ]);
  const pending = await run(["fleet", "show", id, "--targets", "--state", "pending", "--json"], { env });
  expect(JSON.parse(pending.out).targets.map(({ vm_id }: { vm_id: string }) => vm_id)).toEqual([
    "vm-2",
    "vm-3",
  ]);
  expect((await run(["fleet", "cancel", id], { env })).code).toBe(0);
});

it("lists, pauses, resumes and cancels", async () => {
  const given = await run(["fleet", "drain", "--pool", "pool-a", "--max-parallel", "1", "--json"], { env });
  const { id } = JSON.parse(given.out);
  expect((await run(["fleet", "ls"], { env })).out).toMatch(new RegExp(`${id} +drain +running +0/3`));
  for (const [step, state] of Object.entries({ pause: "paused", resume: "running", cancel: "cancelled" }))
    expect(JSON.parse((await run(["fleet", step, id, "--json"], { env })).out)).toMatchObject({ state });
  // Cancelled is not what was asked.
  expect((await run(["fleet", "show", id, "--wait"], { env })).code).toBe(1);
});

it.each([
  [["fleet", "drain"], 2, "which VMs?"],
  [["fleet", "show", "x", "--state", "failed"], 2, "--state goes with --targets"],
  [["fleet", "show", "x", "--targets", "--wait"], 2, "either --targets or --wait"],
  [["fleet", "drain", "--pool", "p", "--max-parallel", "many"], 2, "--max-parallel"],
  [["fleet", "command", "x", "--pool", "p", "--parameters", "[]"], 2, "--parameters"],
  [["fleet", "drain", "--pool", "none"], 1, "no VM fits"],
])("%j is refused", async (args, expected, problem) => {
  const { code, err } = await run(args, { env });
  expect([code, err]).toEqual([expected, expect.stringContaining(problem)]);
});
