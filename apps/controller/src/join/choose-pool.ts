import { MigError } from "@mig/lifecycle";
import type { PoolConfig } from "../config/pools.ts";

/**
 * The pool that a machine joins: the one that it names, if that takes it; else the only one that does. `problemOf` says
 * why a pool does not.
 */
export function choosePool(
  pools: readonly PoolConfig[],
  poolId: string | undefined,
  problemOf: (pool: PoolConfig) => string | undefined,
): PoolConfig {
  if (poolId !== undefined && poolId !== "") {
    const named = pools.find(({ id }) => id === poolId);
    if (named === undefined) throw new MigError("forbidden", `there is no pool ${poolId}`);
    const problem = problemOf(named);
    if (problem !== undefined) throw new MigError("forbidden", `the pool ${poolId} ${problem}`);
    return named;
  }
  const good = pools.filter((pool) => problemOf(pool) === undefined);
  const [pool] = good;
  if (pool === undefined) throw new MigError("forbidden", "no pool takes this machine; see its policy, join");
  if (good.length > 1)
    throw new MigError(
      "forbidden",
      `${good.length} pools take this machine; set pool_id to say which of them it joins`,
    );
  return pool;
}
