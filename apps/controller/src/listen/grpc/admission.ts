import { MigError } from "@mig/lifecycle";
import { isId } from "@mig/protocol";
import type { GrpcParts } from "./grpc-parts.ts";

/**
 * Whether a stream may speak for a VM. With the agents' token: yes. Without: only for a VM of a pool whose agents
 * are from before MIG and cannot send one (reference/go-agent-wire.md §14.1), and never for a VM that belongs to
 * another pool already, or anybody could take it over by naming such a pool.
 */
export class Admission {
  readonly hasCredentials: boolean;
  readonly #parts: Pick<GrpcParts, "desk" | "gate" | "isLegacyPool">;
  readonly #refusal: MigError | undefined;

  constructor(
    parts: Pick<GrpcParts, "desk" | "gate" | "isLegacyPool">,
    authorization: readonly (string | Buffer)[],
  ) {
    this.#parts = parts;
    this.hasCredentials = authorization.length > 0;
    try {
      // Two of them: which one counts is a question that a proxy may answer differently.
      parts.gate("agent", authorization.length === 1 ? String(authorization[0]) : undefined);
    } catch (error) {
      this.#refusal = error as MigError;
    }
  }

  async admit(vmId: string, poolId: string): Promise<void> {
    if (!isId(vmId)) throw new MigError("invalid_request", "vm_id is missing or not an id");
    if (this.#refusal === undefined) return;
    if (this.hasCredentials || !this.#parts.isLegacyPool(poolId)) throw this.#refusal;
    const poolNow = await this.#poolOf(vmId);
    if (poolNow !== undefined && !this.#parts.isLegacyPool(poolNow)) {
      throw new MigError("forbidden", `${vmId} belongs to a pool whose agents bring credentials`);
    }
  }

  async #poolOf(vmId: string): Promise<string | undefined> {
    try {
      return (await this.#parts.desk.findVm(vmId)).poolId;
    } catch (error) {
      if (error instanceof MigError && error.code === "not_found") return undefined;
      throw error;
    }
  }
}
