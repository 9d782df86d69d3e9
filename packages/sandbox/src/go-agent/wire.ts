import { type Command, ControllerMessage, MIGletMessage } from "@mig/protocol/generated";
import type { GoAgentOptions } from "./go-agent.ts";

/**
 * The bytes and bodies of the predecessor, made from the generated code alone: nothing of MIG's own mapping stands
 * between, or a mistake in the mapping would cancel itself out.
 */
const seconds = (): number => Math.floor(Date.now() / 1000);

export class Wire {
  readonly #names: { vmId: string; poolId: string; orgId: string };

  constructor({ vmId, poolId, orgId = "" }: GoAgentOptions) {
    this.#names = { vmId, poolId, orgId };
  }

  connect(): Uint8Array {
    return encode({ $case: "connect", value: { ...this.#names, version: "dev" } });
  }

  heartbeat(
    state: string,
    runner: string,
    labels: string[],
    job?: { jobId: string; runId: string },
  ): Uint8Array {
    return encode({
      $case: "heartbeat",
      value: {
        ...this.#names,
        health: { cpuUsagePercent: 0.07, memoryTotalBytes: 8_000_000, diskTotalBytes: 50 * 2 ** 30 },
        runnerState: {
          state: runner,
          configured: runner !== "offline",
          runnerName: this.#names.vmId,
          labels,
        },
        currentJob: job === undefined ? undefined : { ...job, status: "running", startedAt: seconds() },
        timestamp: seconds(),
        migletState: state,
      },
    });
  }

  event(type: string, data: Record<string, string>): Uint8Array {
    return encode({ $case: "event", value: { type, ...this.#names, data, timestamp: seconds() } });
  }

  /** What it says to a command, and the grant if it is going to act on it. */
  ackOf(command: Command): {
    bytes: Uint8Array;
    register?: { token: string; url: string; group: string; labels: string[] };
  } {
    const ack = (success: boolean, message: string): Uint8Array =>
      encode({ $case: "commandAck", value: { commandId: command.id, success, message } });
    if (command.type !== "register_runner") return { bytes: ack(false, "Command type not yet implemented") };
    const {
      registration_token: token = "",
      runner_url: url = "",
      runner_group: group = "",
    } = command.stringParams;
    if (token === "") return { bytes: ack(false, "Missing registration_token") };
    if (url === "") return { bytes: ack(false, "Missing runner_url") };
    const register = { token, url, group, labels: command.stringArrayParams };
    return { bytes: ack(true, "Registration config received"), register };
  }

  read(bytes: Uint8Array): ControllerMessage["message"] {
    return ControllerMessage.decode(bytes).message;
  }

  heartbeatBody(state: string, runner: string): object {
    return {
      type: "job_heartbeat",
      timestamp: nanoTime(),
      ...this.#body(),
      miglet_state: state,
      vm_health: { cpu_load: 0.07, memory_total: 8, disk_used: 12, disk_total: 50 },
      runner_state: runner,
    };
  }

  eventBody(type: string, data: Record<string, string>): object {
    return { type, timestamp: nanoTime(), ...this.#body(), ...data };
  }

  #body(): object {
    const { vmId, poolId, orgId } = this.#names;
    return { vm_id: vmId, pool_id: poolId, ...(orgId === "" ? {} : { org_id: orgId }) };
  }
}

/** Go writes nine digits of a second. */
function nanoTime(): string {
  return new Date().toISOString().replace("Z", "123456Z");
}

type Partial = Parameters<typeof MIGletMessage.fromPartial>[0]["message"];

function encode(message: Partial): Uint8Array {
  return MIGletMessage.encode(MIGletMessage.fromPartial({ message })).finish();
}
