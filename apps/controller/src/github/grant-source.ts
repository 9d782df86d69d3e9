/**
 * Where permission to register one runner comes from. Sample mode hands out a fixed token; otherwise the GitHub App
 * does (app-grants.ts). Rejects with MigError: `github_*` codes say whether another attempt may help.
 */
export interface GrantSource {
  issue(wish: GrantWish, signal: AbortSignal): Promise<Grant>;
  /** Deletes an idle runner. `busy` = GitHub says that a job runs there; `unknown` = nobody can say. */
  remove(wish: { orgId: string; poolId: string; runnerName: string }, signal: AbortSignal): Promise<Removal>;
}

export type Removal = "removed" | "busy" | "unknown";

export interface GrantWish {
  vmId: string;
  orgId: string;
  pool: Pool;
  /** Unique for each attempt, so that a lost answer never blocks the next one (runner-contract §7.2). */
  runnerName: string;
  runnerGroup?: string;
  labels?: string[];
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
}

export interface GrantRequest {
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
