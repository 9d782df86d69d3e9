import { MigError } from "@mig/lifecycle";
import type { Command, JsonObject } from "@mig/protocol";
import { returnToQueue } from "../commands/expire.ts";
import { move } from "../commands/move.ts";
import { pickNext } from "../commands/pick-next.ts";
import type { Pool } from "../github/grant-source.ts";
import { createGrants } from "../runner/issue-grant.ts";
import { letRunnerGo } from "../runner/let-go.ts";
import type { CommandRow, VmRow } from "../store/rows.ts";
import { withUnit } from "../store/unit.ts";
import type { Parts } from "./parts.ts";

/**
 * Takes the next command of a VM for one session: marks it sent under the VM's lock, if the session is still the
 * newest (rejects with `superseded` if not), and adds what must not rest in the table (a grant) or is only true now
 * (whether GitHub let the runner go). The row moves first: a crash in between costs one redelivery, never a second effect.
 */
export type Deliver = (vmId: string, epoch: number) => Promise<Command | undefined>;

export function createDeliver(parts: Parts): Deliver {
  const { store, log } = parts;
  const { grantFor } = createGrants(parts);

  return async (vmId, epoch) => {
    const taken = await withUnit(
      store,
      { vmIds: [vmId] },
      (unit) => {
        const vm = unit.vm(vmId);
        if (vm === undefined) return undefined;
        // Also how a session learns that the VM has gone to another replica.
        if (vm.sessionEpoch !== epoch) throw new MigError("superseded", `${vmId} has a newer session`);
        const command = pickNext(unit.openCommands(vmId), unit.nowMs);
        if (command === undefined) return undefined;
        move(command, "send", unit.nowMs);
        command.sessionEpoch = epoch;
        return { command: { ...command }, vm: { ...vm } };
      },
      // A delivery that the database forgets is made again; the agent does nothing twice.
      { mayBeForgotten: true },
    );
    if (taken === undefined) return undefined;
    try {
      const extra = await complete(taken.command, taken.vm);
      return toMessage(taken.command, extra);
    } catch (error) {
      await giveBack(taken.command, error);
      return undefined;
    }
  };

  async function complete(command: CommandRow, vm: VmRow): Promise<JsonObject> {
    if (command.type === "register_runner") {
      const grant = await grantFor(command, vm);
      return {
        ...(grant.registrationToken === undefined ? {} : { registration_token: grant.registrationToken }),
        ...(grant.jitConfig === undefined ? {} : { jit_config: grant.jitConfig }),
        ...(grant.runnerName === undefined ? {} : { runner_name: grant.runnerName }),
        runner_url: grant.runnerUrl,
        runner_group: grant.runnerGroup,
        labels: grant.labels,
        expires_at: new Date(grant.expiresAtMs).toISOString(),
        ...pinOf(parts.poolOf(vm.poolId)),
      };
    }
    if (command.type === "drain" && vm.runnerName !== null) {
      return { registration: await letRunnerGo(parts, vm) };
    }
    return {};
  }

  /** The command could not be completed: back to the queue if time may help, failed if not. */
  async function giveBack(command: CommandRow, error: unknown): Promise<void> {
    const known =
      error instanceof MigError
        ? error
        : new MigError("internal", "the command could not be completed", { cause: error });
    log.warn(
      { vm_id: command.vmId, command_id: command.id, error: known },
      "a command could not be completed for delivery",
    );
    await withUnit(store, { vmIds: [command.vmId], commandIds: [command.id] }, (unit) => {
      const row = unit.command(command.id);
      const vm = unit.vm(command.vmId);
      if (row === undefined || vm === undefined) return;
      // It took so long that the command was delivered again meanwhile: that delivery goes its own way.
      if (row.attempt !== command.attempt) return;
      const problem = {
        code: known.code,
        category: known.category,
        message: known.message,
        at_ms: unit.nowMs,
      };
      if (known.category === "transient" || known.category === "infrastructure") {
        // Nothing was delivered: a long line at GitHub must not use up the deliveries that a command has.
        if (row.state === "sent") row.attempt -= 1;
        returnToQueue(
          row,
          unit.nowMs,
          unit.nowMs + (known.retryAfterMs ?? Math.min(60_000, 500 * 2 ** command.attempt)),
        );
        row.message = known.message;
      } else {
        move(row, "fail", unit.nowMs, known.message, { problem: known.code });
      }
      vm.problem = problem;
    });
  }
}

function pinOf(pool: Pool | undefined): JsonObject {
  if (pool?.runner === undefined) return {};
  const { version, sha256, downloadUrl } = pool.runner;
  return {
    runner_version: version,
    runner_sha256: sha256,
    ...(downloadUrl === undefined ? {} : { runner_download_url: downloadUrl }),
  };
}

export function toMessage(command: CommandRow, extra: JsonObject): Command {
  return {
    id: command.id,
    type: command.type,
    parameters: { ...command.parameters, ...extra },
    createdAtMs: command.createdAtMs,
    attempt: command.attempt,
    ...(command.expiresAtMs === null ? {} : { expiresAtMs: command.expiresAtMs }),
  };
}
