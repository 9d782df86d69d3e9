import { isFinished, isTerminal } from "@mig/lifecycle";
import { expect, it } from "vitest";
import { AgentSide } from "./agent-side.ts";
import { ControllerSide } from "./controller-side.ts";
import { must, World } from "./world.ts";

/**
 * Thousands of whole lives in simulated time: the agent's real `step`, the controller's real flows, spines and tables,
 * and between them a network that loses, delays, doubles and reorders, an agent that crashes between any two effects,
 * a controller that restarts, a machine that reboots, operators who order this and that. After a while the faults
 * stop; then every life must end, and all along the promises of reliability-security §1.2 must hold.
 *
 *   MIG_SIM_SEED=4711 MIG_SIM_LIVES=1   lives one life again, the one that failed
 */
const firstSeed = Number(process.env["MIG_SIM_SEED"] ?? 1);
const lives = Number(process.env["MIG_SIM_LIVES"] ?? 10_000);

const minute = 60_000;
const faultsForMs = 10 * minute;
const hour = 60 * minute;

interface Tally {
  ends: Record<string, number>;
  events: number;
  commands: number;
  jobs: number;
}

function live(seed: number, tally: Tally): void {
  const world = new World(seed, faultsForMs);
  const controller = new ControllerSide(world);
  const agent = new AgentSide(world, controller);
  const now = (): string => `${agent.state?.at ?? "no process"} / ${controller.vm?.state}`;
  const sometimes = (meanMs: number, run: () => void): void => {
    const again = (): void => {
      if (!world.isFaulty) return;
      run();
      world.after(world.between(1, 2 * meanMs), again);
    };
    world.after(world.between(1, 2 * meanMs), again);
  };
  sometimes(2 * minute, () => agent.cutLink());
  sometimes(4 * minute, () => {
    controller.restart();
    // The agent notices a dead channel at the latest after half a minute (reliability-security R14).
    world.after(world.between(1, 30_000), () => agent.cutLink());
  });
  sometimes(5 * minute, () => agent.crash());
  if (world.chance(0.05)) world.after(world.between(1, faultsForMs), () => agent.reboot());
  if (world.chance(0.05)) world.after(world.between(1, faultsForMs), () => agent.vanish());
  if (world.chance(0.2))
    world.after(world.between(1, faultsForMs), () => {
      world.cutUntilMs = world.nowMs + world.between(10_000, 8 * minute);
      world.after(world.between(1, 30_000), () => agent.cutLink());
    });
  const orders = [
    () => controller.order("set_log_level", { level: "debug" }),
    () => controller.order("update_config", { heartbeat_interval: "30s" }),
    () => controller.order("collect_diagnostics", { reason: "it hangs" }),
    () => controller.order("drain"),
    () => controller.order("shutdown"),
    () => controller.order("shutdown", { force: true }),
  ];
  for (let n = world.between(0, 3); n > 0; n -= 1)
    world.after(world.between(1, faultsForMs), () => orders[world.between(0, orders.length - 1)]?.());
  if (world.chance(0.1)) world.after(world.between(1, faultsForMs), () => agent.signal(1));
  // Somebody looks after what has no runner and gets no grant any more; a VM with a runner must end by itself.
  world.after(faultsForMs + 20 * minute, () => {
    if (agent.state?.at === "ready") controller.order("shutdown");
  });

  const isOver = (): boolean =>
    (agent.exitCode !== undefined || agent.hasVanished) &&
    controller.vm !== undefined &&
    isTerminal(controller.vm.state) &&
    controller.openCommands().length === 0;
  world.run(world.nowMs + 4 * hour, isOver);

  const { vm } = controller;
  // A machine that vanished before it was ever heard of leaves nothing behind.
  if (vm === undefined && agent.hasVanished) return;
  must(vm !== undefined && isTerminal(vm.state), "every life ends", now);
  must(agent.exitCode !== undefined || agent.hasVanished, "every agent ends", now);
  for (const { type, state, attempt } of controller.commands)
    must(isFinished(state), "C2", () => `${type} is ${state} after ${attempt} deliveries`);
  // What was spooled is stored, unless the machine ended before anybody could be reached.
  const left = agent.disk.spool.filter(({ incarnation }) => incarnation === agent.disk.incarnation);
  must(
    left.length === 0 || agent.exitedAtMs < world.faultsEndMs + minute,
    "E2",
    () => `${left.length} events never arrived`,
  );
  const types = controller.events.map(({ type }) => type);
  const count = (type: string): number => types.filter((one) => one === type).length;
  must(left.length > 0 || agent.jobsRun <= count("job_completed"), "every job's end is told", () =>
    types.join(),
  );

  const end = vm?.state ?? "";
  tally.ends[end] = (tally.ends[end] ?? 0) + 1;
  tally.events += controller.events.length;
  tally.commands += controller.commands.length;
  tally.jobs += agent.jobsRun;
}

it(`${lives} lives keep every promise`, { timeout: 600_000 }, () => {
  const tally: Tally = { ends: {}, events: 0, commands: 0, jobs: 0 };
  for (let seed = firstSeed; seed < firstSeed + lives; seed += 1) {
    try {
      live(seed, tally);
    } catch (error) {
      throw new Error(`the life of seed ${seed} broke a promise: MIG_SIM_SEED=${seed} MIG_SIM_LIVES=1`, {
        cause: error,
      });
    }
  }
  // A simulation in which nothing happens would keep every promise too.
  expect(tally.ends["terminated"]).toBeGreaterThan(lives / 2);
  if (lives >= 1_000) {
    expect(tally.ends["lost"]).toBeGreaterThan(0);
    expect(tally.jobs).toBeGreaterThan(lives / 3);
    expect(tally.commands).toBeGreaterThan(lives);
  }
});
