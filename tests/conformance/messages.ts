import type { Heartbeat, JsonObject, VmEvent } from "@mig/protocol";

export function eventOf(
  vmId: string,
  incarnation: string,
  seq: number,
  type: string,
  data: JsonObject,
): VmEvent {
  return {
    type,
    vmId,
    poolId: "pool-a",
    orgId: "acme",
    occurredAtMs: Date.now(),
    eventId: `${incarnation}-${seq}`,
    seq,
    incarnation,
    data,
  };
}

export function beatOf(vmId: string, incarnation: string, migletState: string): Heartbeat {
  return {
    vmId,
    poolId: "pool-a",
    orgId: "acme",
    incarnation,
    migletState,
    sentAtMs: Date.now(),
    health: {
      cpuUsagePercent: 1,
      cpuLoad: 0.5,
      memoryUsedBytes: 1,
      memoryTotalBytes: 2,
      diskUsedBytes: 3,
      diskTotalBytes: 4,
    },
    runner: {
      state: migletState === "idle" ? "idle" : "offline",
      configured: migletState === "idle",
      labels: [],
    },
  };
}
