import type { Log } from "@mig/kit";
import {
  type AccessObject,
  type Action,
  accessTable,
  type Caller,
  judgeAccess,
  MigError,
} from "@mig/lifecycle";
import type { FastifyRequest } from "fastify";
import type { Config, LimitsConfig } from "../config/config.ts";
import type { ApiKeys } from "../identity/api-keys.ts";
import { type OidcOperators, saysVmToken } from "../identity/oidc.ts";
import type { VmIdentities } from "../identity/vm-identities.ts";
import type { VmTokens } from "../identity/vm-token.ts";
import type { Desk } from "../session/desk.ts";
import { createLimiter, type Limiter } from "./limiter.ts";
import type { Load } from "./shedding.ts";
import { type StrainWatch, watchStrain } from "./watch-strain.ts";

/** Who calls; "anybody" in sample and development mode, where nobody is asked. What they may do: lifecycle/access.ts. */
export type Who = Caller | "anybody";

export interface Identified {
  readonly who: Who;
  /** A stream may not outlive this. */
  readonly untilMs?: number;
  /** Of the VM's identity; absent for whoever has none. */
  readonly identityEpoch?: number;
}

export interface Gate {
  /** Throws `unauthenticated`. */
  identify(authorization: string | undefined): Promise<Identified>;
  readonly limiter: Limiter;
  readonly strain: StrainWatch;
  /** The VM lives, though what it said was not looked at. */
  hear(vmId: string): void;
}

export interface GateSettings {
  readonly limits: LimitsConfig;
  readonly isOpen: boolean;
  readonly log: Log;
  readonly desk: Pick<Desk, "queueAgeMs" | "hear">;
  /** Bearer tokens from files: all agents share the one, the other is an administrator's. */
  readonly tokens: Config["tokens"];
  /** Undefined in sample mode, which knows nobody. */
  readonly identity?: {
    readonly apiKeys: ApiKeys;
    readonly oidc?: OidcOperators;
    readonly vmTokens: VmTokens;
    readonly identities: VmIdentities;
  };
}

/** A verified token is not verified again for so long; its identity is looked at each time. */
const heldMs = 60_000;
const heldMax = 20_000;

export function createGate({ isOpen, limits, tokens, identity, desk, log }: GateSettings): Gate {
  const verified = new Map<
    string,
    { readonly token: Awaited<ReturnType<VmTokens["verify"]>>; readonly untilMs: number }
  >();

  async function identifyVm(text: string): Promise<Identified> {
    const { vmTokens, identities } = identity ?? {};
    if (vmTokens === undefined || identities === undefined) throw unknown();
    const nowMs = Date.now();
    let held = verified.get(text);
    if (held === undefined || held.untilMs <= nowMs || !vmTokens.isStillSigned(held.token)) {
      const token = await vmTokens.verify(text);
      held = { token, untilMs: Math.min(token.expiresAtMs, nowMs + heldMs) };
      if (verified.size >= heldMax) verified.clear();
      verified.set(text, held);
    }
    const { vmId, poolId, orgId, epoch, expiresAtMs } = held.token;
    if (!(await identities.stands(vmId, epoch)))
      throw new MigError("unauthenticated", `the identity of ${vmId} was revoked or replaced`);
    return { who: { party: "vm", vmId, poolId, orgId }, untilMs: expiresAtMs, identityEpoch: epoch };
  }

  return {
    limiter: createLimiter(limits),
    strain: limits.shedLoad ? watchStrain(() => desk.queueAgeMs(), log) : { admit: () => {} },
    hear: (vmId) => desk.hear(vmId),
    async identify(authorization) {
      if (isOpen) return { who: "anybody" };
      const text = /^bearer ([^\s]{1,8192})$/i.exec(authorization ?? "")?.[1];
      if (text === undefined)
        throw new MigError("unauthenticated", "send the header authorization: Bearer TOKEN");
      // Both are compared always, so that the time does not tell which one was nearly right.
      const isAgent = tokens?.agent?.matches(text) ?? false;
      const isOperator = tokens?.operator?.matches(text) ?? false;
      if (isAgent) return { who: { party: "agents" } };
      if (isOperator) return { who: { party: "admin", name: "operator_token_file" } };
      if (text.startsWith("mgk_")) {
        const key = await identity?.apiKeys.find(text);
        if (key === undefined) throw unknown();
        const name = `${key.name} (${key.id})`;
        return { who: { party: key.role, name, ...(key.orgs === null ? {} : { orgs: key.orgs }) } };
      }
      if (text.split(".").length === 3) {
        if (identity?.oidc === undefined || saysVmToken(text)) return identifyVm(text);
        const { role, untilMs, ...person } = await identity.oidc.find(text);
        return { who: { party: role, ...person }, untilMs };
      }
      throw unknown();
    },
  };
}

function unknown(): MigError {
  return new MigError("unauthenticated", "the token is not known here, or no longer good");
}

/** Throws `forbidden`, or `not_found` for what is another organization's. */
export function demand(who: Who, action: Action, object: AccessObject = {}): void {
  if (who === "anybody") return;
  const verdict = judgeAccess(who, action, object);
  if (verdict === "yes") return;
  if (verdict === "foreign") throw new MigError("not_found", "there is no such thing in your organizations");
  if (who.party === "vm" && accessTable[action].vm === "own")
    throw new MigError("forbidden", `this is the token of ${who.vmId}, and it speaks for no other VM`);
  if (who.party === "vm" || who.party === "agents")
    throw new MigError("forbidden", "this is an agent's token; operators bring an API key");
  if (accessTable[action].vm !== "no" || accessTable[action].agents !== "no")
    throw new MigError("forbidden", "only the VM's own agent may do this");
  const isScoped = accessTable[action][who.party] === "all";
  throw new MigError(
    "forbidden",
    isScoped
      ? "this is for keys of all organizations, and yours is for some"
      : `the role ${who.party} may not do this (${action})`,
  );
}

/** An agent speaks for its own pool and organization, whatever its settings say. What is left empty is the token's. */
export function asOwn<T extends { poolId?: string | undefined; orgId?: string | undefined }>(
  who: Who,
  said: T,
): T {
  if (who === "anybody" || who.party !== "vm") return said;
  for (const [name, text, own] of [
    ["pool_id", said.poolId, who.poolId],
    ["org_id", said.orgId, who.orgId],
  ] as const)
    if (text !== undefined && text !== "" && text !== own)
      throw new MigError(
        "vm_mismatch",
        `${name} is another one than the token's, ${own}; leave it out or mend it`,
      );
  return { ...said, poolId: who.poolId, orgId: who.orgId };
}

/** The organizations that lists are cut to; undefined: all. */
export function orgsOf(who: Who): readonly string[] | undefined {
  return who !== "anybody" && "orgs" in who ? who.orgs : undefined;
}

/** For the audit log. */
export function actorOf(who: Who): string {
  if (who === "anybody") return "anybody";
  if (who.party === "vm") return `vm:${who.vmId}`;
  return who.party === "agents" ? "agents" : `key:${who.name}`;
}

/** What the question needs of a request: a handshake of a socket has no more. */
export type Asked = Pick<FastifyRequest, "headers" | "ip"> & { readonly params: unknown };

const callers = new WeakMap<Asked, Who>();

/** Who sent this request: `ask` has found out. */
export function callerOf(request: Asked): Who {
  const who = callers.get(request);
  if (who === undefined) throw new MigError("internal", "the route does not ask who calls");
  return who;
}

/** What the audit log says of a request beside the act itself. */
export function originOf(request: FastifyRequest): { actor: string; requestId: string; address: string } {
  return { actor: actorOf(callerOf(request)), requestId: request.id, address: request.ip };
}

/** The first step of a route that is open to everybody and costs something. */
export function askNobody(gate: Gate, load: Load = "vital") {
  return async (request: FastifyRequest): Promise<void> => {
    gate.limiter.chargeUnknown(request.ip);
    gate.strain.admit(load);
  };
}

/**
 * The first step of a route: nobody's body is read before they are known. What depends on the object and not only on
 * the role is asked again when the object is known; an agent's object is in the path.
 */
export function ask(gate: Gate, action: Action, load: Load = action.endsWith(".read") ? "list" : "vital") {
  const isAgents = accessTable[action].agents !== "no" || accessTable[action].vm !== "no";
  const step = async (request: Asked): Promise<void> => {
    const { who } = await gate.identify(request.headers.authorization).catch((error: unknown) => {
      gate.limiter.chargeUnknown(request.ip);
      throw error;
    });
    gate.limiter.charge(who);
    callers.set(request, who);
    if (isAgents) {
      const { vm_id: vmId } = (request.params ?? {}) as { vm_id?: string };
      demand(who, action, vmId === undefined ? {} : { vmId });
      // A heartbeat that is refused was a sign of life all the same: nobody is written off because we are busy.
      if (vmId !== undefined && load === "bulk") gate.hear(vmId);
      // Agents from before MIG have no spool: they give up after five attempts. They share a token, or have none.
      if (load === "bulk" && (who === "anybody" || who.party !== "vm")) return;
    } else {
      const orgs = orgsOf(who);
      demand(who, action, orgs === undefined ? {} : { orgId: orgs[0] ?? "" });
    }
    gate.strain.admit(load);
  };
  return Object.assign(step, { action });
}

/** What a route asks for, for its description: `x-mig-action` in the OpenAPI document. Undefined: open to everybody. */
export function actionOf(onRequest: unknown): Action | undefined {
  for (const step of Array.isArray(onRequest) ? onRequest : [onRequest])
    if (typeof step === "function" && "action" in step) return step.action as Action;
  return undefined;
}
