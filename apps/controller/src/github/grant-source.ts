import type { RunnerPin } from "../config/runner-pin.ts";

/**
 * Where permission to register one runner comes from. Sample mode hands out a fixed token; otherwise GitHub Apps do
 * (runner/open-grants.ts). Rejects with MigError: `github_*` codes say whether another attempt may help, and
 * `github_rate_limited` when to come back.
 */
export interface GrantSource {
  /** The same request gets the same grant again for five minutes. Waits for it up to `holdMs`. */
  take(ask: GrantAsk, holdMs: number): Promise<Grant>;
  /** Deletes an idle runner. `busy` = GitHub says that a job runs there; `unknown` = nobody can say. */
  remove(wish: { orgId: string; poolId: string; runnerName: string }): Promise<Removal>;
}

export type Removal = "removed" | "busy" | "unknown";

export interface GrantAsk {
  vmId: string;
  /** At most one live grant, and three in all, for each. */
  incarnation: string;
  /** The command that will carry it, or the key of a request. */
  requestId: string;
  /** The request has no name of its own: another grant when the one before is over. */
  mayRenew?: boolean;
  orgId: string;
  /** The VM's own word for its pool; the rules of the default pool are for many. */
  poolId: string;
  pool: Pool;
  /** What the VM itself said that it wants, which must be its own. */
  said?: Omit<GrantRequest, "requestId">;
}

/** VMs with the same labels, runner group, organization and registration method. */
export interface Pool {
  id: string;
  /** The organization of its VMs, for those that do not say. */
  orgId: string;
  runnerUrl: string;
  runnerGroup: string;
  labels: string[];
  /** A JIT config makes exactly one runner; a registration token any number for an hour (DESIGN §3). */
  registration: "jit" | "token";
  /** Its VMs register again after a job. */
  reuse?: boolean;
  /** The version of actions/runner that its VMs run. */
  runner?: RunnerPin;
}

export interface GrantRequest {
  requestId?: string;
  orgId?: string;
  poolId?: string;
  runnerGroup?: string;
  labels?: string[];
}

export interface Grant {
  registrationToken?: string;
  jitConfig?: string;
  runnerName?: string;
  expiresAtMs: number;
  runnerUrl: string;
  runnerGroup: string;
  labels: string[];
}
