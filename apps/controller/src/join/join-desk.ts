import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { isId, maybe, toJsonObject } from "@mig/protocol";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import type { Act } from "../audit/chain.ts";
import type { PeerCertificate } from "../identity/peer-certificate.ts";
import {
  findIdentity,
  insertIdentity,
  replaceIdentity,
  type VmIdentities,
  type VmIdentityRow,
} from "../identity/vm-identities.ts";
import { type KeyProof, type VmTokens, verifyKeyProof } from "../identity/vm-token.ts";
import type { Store, Tx } from "../store/open-store.ts";
import type { Claim, JoinRequest, Prover } from "./prover.ts";

export interface Origin {
  readonly address?: string;
  readonly requestId: string;
  /** The verified client certificate of the connection. */
  readonly certificate?: PeerCertificate;
}

export interface Joined {
  readonly vmId: string;
  readonly poolId: string;
  readonly orgId: string;
  readonly accessToken: string;
  readonly expiresInMs: number;
}

export interface JoinDesk {
  nonce(): Promise<{ text: string; expiresInMs: number }>;
  join(request: JoinRequest, origin: Origin): Promise<Joined>;
  renew(vmId: string, request: Pick<JoinRequest, "nonce" | "keyProof">, origin: Origin): Promise<Joined>;
}

export interface JoinDeskSettings {
  readonly store: Store;
  readonly tokens: VmTokens;
  readonly identities: VmIdentities;
  /** By the names of the methods. */
  readonly provers: ReadonlyMap<string, Prover>;
  readonly log: Log;
}

/**
 * How a machine becomes a VM that is known: it proves what it is, shows a key, and from then on only that key speaks
 * for it. Asking again with the same key and the same proof is answered again: the first answer may have been lost.
 */
export function createJoinDesk({ store, tokens, identities, provers, log }: JoinDeskSettings): JoinDesk {
  const answer = async ({ vmId, poolId, orgId, epoch, keyThumbprint }: VmIdentityRow): Promise<Joined> => {
    const { text, expiresInMs } = await tokens.sign(
      { vmId, poolId, orgId, epoch, keyThumbprint },
      Date.now(),
    );
    return { vmId, poolId, orgId, accessToken: text, expiresInMs };
  };

  /** On record even when the act itself is rolled back. That nobody could be asked is no refusal. */
  async function refuse(act: Act, error: unknown): Promise<never> {
    if (error instanceof MigError && error.category !== "transient")
      await store.transact((tx) =>
        recordAct(tx, { ...act, result: "refused", details: { ...act.details, reason: error.message } }),
      );
    throw error;
  }

  return {
    nonce: () => tokens.nonce(Date.now()),

    async join(request, { address, requestId, certificate }) {
      const { vmId, method } = request;
      if (!isId(vmId)) throw new MigError("invalid_request", "vm_id is missing or not an id");
      const prover = provers.get(method);
      if (prover === undefined)
        throw new MigError(
          "refused",
          `there is no way to join called ${JSON.stringify(method.slice(0, 32))}; there are ${[...provers.keys()].join(", ")}`,
        );
      const nonce = await tokens.readNonce(request.nonce);
      const key = await verifyKeyProof(request.keyProof, { nonce: request.nonce, vmId });
      const known: { orgId: string } = { orgId: "-" };
      const act = {
        actor: `vm:${vmId}`,
        action: "vm.join",
        object: `vm:${vmId}`,
        requestId,
        ...maybe("address", address),
      };
      try {
        const about = {
          key,
          address,
          certificate,
          orgIs(orgId: string) {
            known.orgId = orgId;
          },
        };
        const claimIn = await prover.verify(request, about);
        const row = await store.transact(async (tx) => {
          const claim = await claimIn(tx);
          await useNonce(tx, nonce);
          const settled = await settle(tx, vmId, key, claim);
          await recordAct(tx, {
            ...act,
            orgId: claim.orgId,
            result: "done",
            details: {
              method,
              joined_by: claim.joinedBy,
              pool_id: claim.poolId,
              key: key.thumbprint,
              again: settled.isAgain,
            },
          });
          return settled.row;
        });
        await identities.refresh();
        log.info({ vm_id: vmId, pool_id: row.poolId, org_id: row.orgId, method }, "a VM has joined");
        return await answer(row);
      } catch (error) {
        return refuse(
          { ...act, orgId: known.orgId, result: "refused", details: { method, key: key.thumbprint } },
          error,
        );
      }
    },

    async renew(vmId, request, { address, requestId }) {
      const nonce = await tokens.readNonce(request.nonce);
      const key = await verifyKeyProof(request.keyProof, { nonce: request.nonce, vmId });
      const row = await store.transact(async (tx) => {
        await useNonce(tx, nonce);
        return findIdentity(tx, { vmId });
      });
      if (row === undefined) throw new MigError("unauthenticated", `${vmId} has not joined; join first`);
      if (row.keyThumbprint !== key.thumbprint || row.revokedAtMs !== null) {
        const error =
          row.revokedAtMs === null
            ? new MigError("forbidden", `another key speaks for ${vmId}`)
            : new MigError("forbidden", `the identity of ${vmId} was revoked`);
        return refuse(
          {
            orgId: row.orgId,
            actor: `vm:${vmId}`,
            action: "vm.renew",
            object: `vm:${vmId}`,
            result: "refused",
            requestId,
            ...maybe("address", address),
            details: { key: key.thumbprint, known: row.keyThumbprint },
          },
          error,
        );
      }
      return answer(row);
    },
  };

  /** First come, first served; and whoever comes second with another key is refused, for both to be seen. */
  async function settle(
    tx: Tx,
    vmId: string,
    key: KeyProof,
    claim: Claim,
  ): Promise<{ row: VmIdentityRow; isAgain: boolean }> {
    const { rows } = await sql<{ nowMs: number; state: string | null }>`select
      round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs",
      (select state from vms where vm_id = ${vmId}) as state`.execute(tx);
    const { nowMs = Date.now(), state = null } = rows[0] ?? {};
    // Two first joins of one machine, or of one name, at the same moment: the second waits here and then finds the
    // first one's row. Everybody takes the machine's lock before the name's.
    await sql`select pg_advisory_xact_lock(hashtextextended(${claim.instance}, 6))`.execute(tx);
    await sql`select pg_advisory_xact_lock(hashtextextended(${vmId}, 5))`.execute(tx);
    const found = await findIdentity(tx, { vmId }, true);
    const row: VmIdentityRow = {
      vmId,
      poolId: claim.poolId,
      orgId: claim.orgId,
      method: claim.method,
      instance: claim.instance,
      keyThumbprint: key.thumbprint,
      publicJwk: toJsonObject(key.publicJwk),
      joinedBy: claim.joinedBy,
      epoch: (found?.epoch ?? 0) + 1,
      createdAtMs: nowMs,
      changedAtMs: nowMs,
      revokedAtMs: null,
    };
    const twin = await findIdentity(tx, { instance: claim.instance });
    if (twin !== undefined && twin.vmId !== vmId)
      throw new MigError("conflict", `this machine has joined as ${twin.vmId}, and is no second VM`);
    if (found === undefined) {
      await claim.spend(tx);
      await insertIdentity(tx, row);
      return { row, isAgain: false };
    }
    const isSame = found.keyThumbprint === key.thumbprint && found.joinedBy === claim.joinedBy;
    if (isSame && found.revokedAtMs === null) return { row: found, isAgain: true };
    if (found.revokedAtMs !== null && found.joinedBy === claim.joinedBy)
      throw new MigError(
        "forbidden",
        `the identity of ${vmId} was revoked; nothing that it joined with is good any more`,
      );
    const isGone = claim.replaces?.(found) ?? false;
    const isOver = isGone || found.revokedAtMs !== null || state === "terminated" || state === "lost";
    if (!isOver && found.keyThumbprint !== key.thumbprint)
      throw new MigError(
        "conflict",
        `${vmId} has joined with another key. If that machine is gone, revoke its identity and join again`,
      );
    // A machine of the same name after one that has ended, or the same one with a new proof.
    await claim.spend(tx);
    await replaceIdentity(tx, row);
    return { row, isAgain: false };
  }
}

async function useNonce(tx: Tx, { id, expiresAtMs }: { id: string; expiresAtMs: number }): Promise<void> {
  const { rows } = await sql`insert into used_nonces (id, expires_at)
    values (${id}, to_timestamp(${expiresAtMs}::float8 / 1000.0)) on conflict do nothing returning id`.execute(
    tx,
  );
  if (rows.length === 0)
    throw new MigError("unauthenticated", "the nonce was used before; ask for another one");
  // A few at a time: nobody has to come by to clean up.
  await sql`delete from used_nonces where id in (select id from used_nonces
    where expires_at < clock_timestamp() - interval '1 minute' limit 20)`.execute(tx);
}
