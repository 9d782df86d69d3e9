import { MigError } from "@mig/lifecycle";
import { asObject, isId, readNumber, readText } from "@mig/protocol";
import type { HttpClient } from "../../link/http-request.ts";
import { pathSegment } from "../../link/path-segment.ts";
import type { Belonging, VmKey } from "./key.ts";
import { proveKey } from "./prove.ts";

/** What the controller gives to a VM that it knows. */
export interface Pass extends Belonging {
  readonly accessToken: string;
  readonly lifeMs: number;
}

/** What this VM is proved by at first; with `mtls` the connection does it, and there is nothing to say. */
export type JoinProof = { readonly method: "token"; readonly token: string } | { readonly method: "mtls" };

export interface JoinCalls {
  /** Uses an enrolment token up; asked again with the same key, it is the first answer again. */
  join(proof: JoinProof): Promise<Pass>;
  /** By proof of the key alone. */
  renew(): Promise<Pass>;
}

export interface JoinCallSettings {
  readonly client: Pick<HttpClient, "call">;
  readonly vmId: string;
  readonly key: VmKey;
  readonly timeoutMs: number;
}

/** DESIGN §7: each call asks for a nonce and proves the key over it. Both throw MigError. */
export function createJoinCalls({ client, vmId, key, timeoutMs }: JoinCallSettings): JoinCalls {
  const post = (path: string, body: object): Promise<unknown> =>
    client.call({ method: "POST", path: `/api/v1${path}`, body, timeoutMs });
  const prove = async (): Promise<{ nonce: string; key_proof: string }> => {
    const nonce = readText(asObject(await post("/join/nonce", {})) ?? {}, "nonce");
    if (nonce === undefined) throw nonsense("gives no nonce");
    return { nonce, key_proof: proveKey(key, { nonce, vmId }) };
  };
  return {
    join: async (proof) => readPass(await post("/join", { ...proof, vm_id: vmId, ...(await prove()) }), vmId),
    renew: async () => readPass(await post(`/vms/${pathSegment(vmId)}/token`, await prove()), vmId),
  };
}

function readPass(answer: unknown, vmId: string): Pass {
  const from = asObject(answer) ?? {};
  const accessToken = readText(from, "access_token") ?? "";
  const [poolId, orgId] = [readText(from, "pool_id"), readText(from, "org_id")];
  const lifeS = readNumber(from, "expires_in") ?? 0;
  if (readText(from, "vm_id") !== vmId) throw nonsense("speaks of another VM");
  // What no header can carry would end the process deep inside of node.
  if (!/^[!-~]{1,8192}$/.test(accessToken)) throw nonsense("gives no token");
  if (!isId(poolId) || !isId(orgId)) throw nonsense("does not say which pool and organization this VM is of");
  if (!(lifeS > 0)) throw nonsense("does not say for how long its token is good");
  return { accessToken, poolId, orgId, lifeMs: Math.min(lifeS * 1000, lifeMsMax) };
}

/** A timer of more than 24 days fires at once. */
const lifeMsMax = 24 * 60 * 60_000;

const nonsense = (what: string): MigError =>
  new MigError("controller_unreachable", `What should let this VM join ${what}: check controller.endpoint.`);
