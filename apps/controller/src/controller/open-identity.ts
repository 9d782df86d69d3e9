import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { JoinConfig } from "../config/join.ts";
import type { OidcConfig } from "../config/oidc.ts";
import type { PoolConfig } from "../config/pools.ts";
import { ApiKeys } from "../identity/api-keys.ts";
import { OidcOperators } from "../identity/oidc.ts";
import { type KeyTimes, keyTimes, SigningKeys } from "../identity/signing-keys.ts";
import { VmIdentities } from "../identity/vm-identities.ts";
import { VmTokens } from "../identity/vm-token.ts";
import { createJoinDesk } from "../join/join-desk.ts";
import { openProvers } from "../join/open-provers.ts";
import type { Access } from "../listen/access.ts";
import type { Sealer } from "../secrets/sealer.ts";
import type { Registry } from "../session/registry.ts";
import type { Store } from "../store/open-store.ts";

/** Days and minutes in the field; a test has seconds. */
export interface IdentityTimes {
  readonly keys: KeyTimes;
  /** How often the keys are looked at. A new one is published ten minutes before it signs. */
  readonly refreshKeysMs: number;
}

export const identityTimes: IdentityTimes = { keys: keyTimes, refreshKeysMs: 60_000 };

export interface OpenIdentitySettings {
  readonly store: Store;
  readonly sealer: Sealer;
  readonly registry: Registry;
  readonly poolOf: (poolId: string) => { orgId: string } | undefined;
  readonly pools: () => readonly PoolConfig[];
  readonly joinConfig: JoinConfig;
  readonly oidcConfig: OidcConfig | undefined;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly times?: IdentityTimes;
}

export interface OpenIdentity {
  readonly access: Access;
  /** Call after `signal` has aborted. */
  close(): Promise<void>;
}

/** Who is who: keys of operators, identities of VMs, and the keys that sign their tokens. */
export async function openIdentity(settings: OpenIdentitySettings): Promise<OpenIdentity> {
  const { store, sealer, registry, oidcConfig, log, signal, times = identityTimes } = settings;
  const signingKeys = await SigningKeys.open({ store, sealer, times: times.keys });
  const vmTokens = new VmTokens(signingKeys);
  const identities = new VmIdentities({
    store,
    log,
    signal,
    onEnded(vmId) {
      log.warn({ vm_id: vmId }, "an identity is over; what spoke for it is cut");
      registry.get(vmId)?.end({ reason: "identity_revoked", reconnectAfterMs: 0, deadlineMs: 0 });
    },
  });
  await identities.start();
  const provers = await openProvers(settings.joinConfig, settings.pools);
  const access: Access = {
    store,
    apiKeys: new ApiKeys(store),
    ...(oidcConfig === undefined ? {} : { oidc: new OidcOperators(oidcConfig) }),
    signingKeys,
    vmTokens,
    identities,
    join: createJoinDesk({ store, tokens: vmTokens, identities, provers, log }),
    orgOfPool(poolId) {
      const orgId = settings.poolOf(poolId)?.orgId;
      if (orgId === undefined)
        throw new MigError(
          "refused",
          `there is no pool ${poolId}; GET /api/v1/pools lists those that are known`,
        );
      return orgId;
    },
  };
  const watch = keepKeys(signingKeys, times.refreshKeysMs, log, signal);
  return {
    access,
    async close() {
      await Promise.all([identities.close(), watch]);
    },
  };
}

async function keepKeys(keys: SigningKeys, everyMs: number, log: Log, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(everyMs, signal);
    if (signal.aborted) return;
    await keys
      .refresh()
      .catch((error: unknown) =>
        log.warn({ error }, "signing keys cannot be read; those that are known go on"),
      );
  }
}
