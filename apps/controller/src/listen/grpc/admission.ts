import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { isId } from "@mig/protocol";
import { asOwn, demand, type Identified, type Who } from "../auth.ts";
import { toMigError } from "../error.ts";
import type { GrpcParts } from "./grpc-parts.ts";

const slowestMs = 1_000;

/**
 * Whether a stream may speak for a VM. With the agents' token: yes. Without: only for a VM of a pool whose agents
 * are from before MIG and cannot send one (reference/go-agent-wire.md §14.1), and never for a VM that belongs to
 * another pool already, or anybody could take it over by naming such a pool.
 */
export class Admission {
  readonly hasCredentials: boolean;
  readonly #parts: Pick<GrpcParts, "desk" | "gate" | "isLegacyPool">;
  readonly #authorization: string | undefined;
  #who: Who = "anybody";
  readonly #identified: Promise<Identified | MigError>;

  constructor(
    parts: Pick<GrpcParts, "desk" | "gate" | "isLegacyPool">,
    authorization: readonly (string | Buffer)[],
  ) {
    this.#parts = parts;
    this.hasCredentials = authorization.length > 0;
    // Two of them: which one counts is a question that a proxy may answer differently.
    this.#authorization = authorization.length === 1 ? String(authorization[0]) : undefined;
    this.#identified = parts.gate.identify(this.#authorization).catch(toMigError);
  }

  /**
   * What an admitted VM says, with the pool and organization of its token. Its identity may be over since it was admitted,
   * and a stream without a session is not cut then. Who says too much is listened to more slowly.
   */
  async own<T extends { poolId: string; orgId?: string }>(message: T): Promise<T> {
    const { gate } = this.#parts;
    if (this.#who === "anybody" || this.#who.party !== "vm") return message;
    await gate.identify(this.#authorization);
    const waitMs = gate.limiter.delayMs(this.#who);
    if (waitMs > 0) await pause(Math.min(waitMs, slowestMs));
    return asOwn(this.#who, message);
  }

  /** Until when the stream may speak for the VM; undefined: as long as it lasts. */
  async admit(
    vmId: string,
    said: { poolId: string; orgId?: string | undefined },
  ): Promise<number | undefined> {
    if (!isId(vmId)) throw new MigError("invalid_request", "vm_id is missing or not an id");
    const identified = await this.#identified;
    if (!(identified instanceof MigError)) {
      demand(identified.who, "vm.speak", { vmId });
      asOwn(identified.who, said);
      this.#who = identified.who;
      return identified.untilMs;
    }
    const { poolId } = said;
    if (this.hasCredentials || !this.#parts.isLegacyPool(poolId)) throw identified;
    const poolNow = await this.#poolOf(vmId);
    if (poolNow !== undefined && !this.#parts.isLegacyPool(poolNow)) {
      throw new MigError("forbidden", `${vmId} belongs to a pool whose agents bring credentials`);
    }
    return undefined;
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
