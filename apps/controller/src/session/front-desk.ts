import { MigError } from "@mig/lifecycle";
import { isId } from "@mig/protocol";
import { commandTypeOf } from "../commands/queue.ts";
import { createGrants } from "../runner/issue-grant.ts";
import { isOwnRunner, letRunnerGo } from "../runner/let-go.ts";
import { takeAnswer } from "./answer.ts";
import type { Beats } from "./beats.ts";
import type { Desk, GrantRequest, VmView } from "./desk.ts";
import { orderCommand } from "./order-command.ts";
import type { Parts } from "./parts.ts";
import type { EventIntake } from "./receive.ts";
import type { Sessions } from "./sessions.ts";
import { findVm, listVms, toCommandView } from "./views.ts";

/** The desk on the real store: checks the names, then hands each request to the part of `session/` that does it. */
export function createDesk(parts: Parts, intake: EventIntake, beats: Beats, sessions: Sessions): Desk {
  const { grantOnRequest } = createGrants(parts);
  return {
    async recordEvents(vmId, events) {
      checkNames(vmId, ...events);
      beats.hear(vmId);
      return intake.submit(vmId, events);
    },
    queueAgeMs: () => intake.ageMs(),
    hear(vmId) {
      if (isId(vmId)) beats.see(vmId);
    },
    async beat(vmId, beat) {
      checkNames(vmId, beat);
      return beats.take(vmId, beat);
    },
    async answer(vmId, answer, beforeMig) {
      checkNames(vmId);
      beats.hear(vmId);
      return toCommandView(await takeAnswer(parts, vmId, answer, beforeMig));
    },
    async open(connect, channel, wire, lastSeen) {
      checkNames(connect.vmId, connect);
      return sessions.open(connect, channel, wire, lastSeen);
    },
    async poll(vmId, poll, signal) {
      checkNames(vmId, {
        vmId,
        poolId: "",
        ...(poll.incarnation === undefined ? {} : { incarnation: poll.incarnation }),
      });
      return sessions.poll(vmId, poll, signal);
    },
    async issueGrant(vmId, request) {
      checkNames(vmId, {
        vmId,
        poolId: request.poolId ?? "",
        ...(request.orgId === undefined ? {} : { orgId: request.orgId }),
      });
      return grantOnRequest(await askerOf(parts, vmId, request), request);
    },
    async releaseRunner(vmId) {
      checkNames(vmId);
      const vm = await findVm(parts.store, vmId);
      return isOwnRunner(vm) ? letRunnerGo(parts, vm) : "unknown";
    },
    async queueCommand(vmId, order) {
      checkNames(vmId);
      return orderCommand(parts, vmId, { ...order, type: commandTypeOf(order.type) });
    },
    async findVm(vmId) {
      checkNames(vmId);
      return findVm(parts.store, vmId);
    },
    listVms: (filter) => listVms(parts.store, filter),
  };
}

/** Who asks for a grant: what the VM has said of itself counts, not what this one request says. */
async function askerOf(
  { store }: Parts,
  vmId: string,
  { poolId, orgId }: GrantRequest,
): Promise<Pick<VmView, "vmId" | "incarnation" | "poolId" | "orgId">> {
  const vm = await findVm(store, vmId).catch((error: unknown) => {
    if (error instanceof MigError && error.code === "not_found") return undefined;
    throw error;
  });
  if (vm === undefined)
    return { vmId, incarnation: "", poolId: poolId ?? "default", orgId: orgId ?? "default" };
  return vm;
}

interface Names {
  vmId: string;
  poolId: string;
  orgId?: string;
  incarnation?: string;
}

/** Ids become file names, labels and log fields: nothing but ids gets past here. */
function checkNames(vmId: string, ...bodies: Names[]): void {
  requireId("vm_id", vmId);
  for (const body of bodies) {
    if (body.vmId !== vmId) {
      throw new MigError(
        "vm_mismatch",
        `the message is about ${printable(body.vmId)}, but it was sent as ${vmId}`,
      );
    }
    if (body.poolId !== "") requireId("pool_id", body.poolId);
    if (body.orgId !== undefined) requireId("org_id", body.orgId);
    if (body.incarnation !== undefined) requireId("incarnation", body.incarnation);
  }
}

function requireId(name: string, text: string): void {
  if (!isId(text)) {
    throw new MigError(
      "invalid_request",
      `${name} ${printable(text)} is not an id: letters, digits, ".", "_" and "-", at most 128, no ".."`,
    );
  }
}

function printable(text: string): string {
  return JSON.stringify(text.slice(0, 64));
}
