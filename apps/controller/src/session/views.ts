import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";
import { type CommandRow, type VmRow, vmsTable } from "../store/rows.ts";
import { columnList, textsIn } from "../store/table.ts";
import type { CommandView, VmFilter, VmView } from "./desk.ts";

/** What operators see. */
export async function findVm(store: Store, vmId: string): Promise<VmView> {
  const found = await store.transact((tx) =>
    sql<ShownVm>`select ${shownColumns} from vms where vm_id = ${vmId}`.execute(tx),
  );
  const row = found.rows[0];
  if (row === undefined)
    throw new MigError("not_found", `there is no VM ${vmId}; GET /api/v1/vms lists those that are known`);
  return toVmView(row);
}

/** Ordered by id; the cursor is the last id of the page before. */
export async function listVms(
  store: Store,
  filter: VmFilter,
): Promise<{ vms: VmView[]; nextCursor: string | null }> {
  const after = filter.cursor === undefined ? null : readCursor(filter.cursor);
  const page = await store.transact((tx) =>
    sql<ShownVm>`select ${shownColumns} from vms
      where (${after}::text is null or vm_id > ${after}::text)
        and (${filter.poolId ?? null}::text is null or pool_id = ${filter.poolId ?? null}::text)
        and (${filter.orgId ?? null}::text is null or org_id = ${filter.orgId ?? null}::text)
        and (${filter.orgIds === undefined} or org_id in ${textsIn(filter.orgIds ?? [])})
        and (${filter.state ?? null}::text is null or state = ${filter.state ?? null}::text)
        and (${filter.reachability ?? null}::text is null or reachability = ${filter.reachability ?? null}::text)
      order by vm_id limit ${filter.limit + 1}`.execute(tx),
  );
  const vms = page.rows.slice(0, filter.limit).map(toVmView);
  const last = vms.at(-1);
  const more = page.rows.length > filter.limit && last !== undefined;
  return { vms, nextCursor: more ? Buffer.from(`vm:${last.vmId}`).toString("base64url") : null };
}

function readCursor(cursor: string): string {
  const text = Buffer.from(cursor, "base64url").toString("utf8");
  if (!text.startsWith("vm:") || Buffer.from(text).toString("base64url") !== cursor) {
    throw new MigError("invalid_request", "the cursor is not one that this list gave out");
  }
  return text.slice(3).replaceAll("\0", "");
}

type ShownVm = VmRow & { ackedSeq: number };

const shownColumns = sql`${columnList(vmsTable)}, coalesce((select acked_seq from incarnations i
  where i.vm_id = vms.vm_id and i.incarnation = vms.incarnation), 0)::float8 as "ackedSeq"`;

function toVmView(row: ShownVm): VmView {
  const { sessionEpoch, sessionChannel, registrations: _r, commandSeq: _c, ...rest } = row;
  return { ...rest, epoch: sessionEpoch, channel: sessionChannel };
}

export function toCommandView(row: CommandRow): CommandView {
  const { urgent: _u, incarnation: _i, sessionEpoch: _e, notBeforeMs: _n, ...rest } = row;
  return rest;
}
