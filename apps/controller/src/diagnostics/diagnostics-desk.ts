import { isFinished, MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import type { Act } from "../audit/chain.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { type CommandRow, commandsTable } from "../store/rows.ts";
import { columnList } from "../store/table.ts";
import { keptPerVm } from "./tidy-diagnostics.ts";

/** A bundle without what is in it. */
export interface BundleFacts {
  readonly commandId: string;
  readonly vmId: string;
  readonly bytes: number;
  /** Of the compressed bundle, in hexadecimal. */
  readonly sha256: string;
  readonly receivedAtMs: number;
  /** What the agent said of it in the command's result; null until that is there. */
  readonly result: CommandRow["result"];
  readonly commandState: CommandRow["state"];
}

export interface Brought {
  readonly vmId: string;
  readonly commandId: string;
  readonly content: Buffer;
  readonly sha256: string;
}

/**
 * Bundles of diagnostics: a gzipped tar that an agent made for a `collect_diagnostics` command. The controller keeps it
 * as it came and never looks inside.
 */
export interface DiagnosticsDesk {
  /**
   * Resolves when it is committed. The same bytes again are taken for what they are, also after the command's end.
   * Rejects with `not_found` when this VM has no such command, `conflict` when there are other bytes for it or it has ended.
   */
  keep(bundle: Brought): Promise<void>;
  /** Of a VM, newest first. */
  list(vmId: string): Promise<BundleFacts[]>;
  /** Written to the audit log in the same transaction. Rejects with `not_found`. */
  fetch(
    about: { vmId: string; orgId: string; commandId: string },
    origin: Pick<Act, "actor" | "requestId" | "address">,
  ): Promise<{ content: Buffer; sha256: string }>;
}

export function createDiagnosticsDesk(store: Store): DiagnosticsDesk {
  return {
    keep: (bundle) => store.transact((tx) => keep(tx, bundle)),
    list: (vmId) =>
      store.transact(async (tx) => {
        const { rows } =
          await sql<BundleFacts>`select d.command_id as "commandId", d.vm_id as "vmId", d.bytes, d.sha256,
            round(extract(epoch from d.received_at) * 1000)::float8 as "receivedAtMs", c.result, c.state as "commandState"
          from diagnostics d join commands c on c.id = d.command_id
          where d.vm_id = ${vmId} order by d.received_at desc, d.command_id desc`.execute(tx);
        return rows;
      }),
    fetch: ({ vmId, orgId, commandId }, origin) =>
      store.transact(async (tx) => {
        const { rows } = await sql<{
          content: Uint8Array;
          sha256: string;
        }>`select content, sha256 from diagnostics
          where command_id = ${commandId} and vm_id = ${vmId}`.execute(tx);
        const [found] = rows;
        if (found === undefined)
          throw new MigError(
            "not_found",
            `there is no bundle of this command; GET /api/v1/vms/${vmId}/diagnostics lists those that are kept`,
          );
        await recordAct(tx, {
          ...origin,
          orgId,
          action: "diagnostics.read",
          object: `vm:${vmId}`,
          result: "done",
          details: { command_id: commandId, sha256: found.sha256 },
        });
        return { content: Buffer.from(found.content), sha256: found.sha256 };
      }),
  };
}

/**
 * The command's row is held meanwhile, so it does not end between the look and the commit. The VM's comes first, as in a
 * unit of work: the insert refers to both, and the other way round the two could wait for each other.
 */
async function keep(tx: Tx, { vmId, commandId, content, sha256 }: Brought): Promise<void> {
  await sql`select 1 from vms where vm_id = ${vmId} for key share`.execute(tx);
  const { rows } = await sql<CommandRow>`select ${columnList(commandsTable)} from commands
    where id = ${commandId} and vm_id = ${vmId} and type = 'collect_diagnostics' for update`.execute(tx);
  const [command] = rows;
  if (command === undefined)
    throw new MigError("not_found", `${vmId} has no command collect_diagnostics of the id ${commandId}`);
  const known = await sql<{ sha256: string }>`select sha256 from diagnostics
    where command_id = ${commandId}`.execute(tx);
  const [before] = known.rows;
  if (before?.sha256 === sha256) return;
  if (before !== undefined)
    throw new MigError("conflict", "another bundle has been stored for this command; it is not replaced");
  if (isFinished(command.state))
    throw new MigError("conflict", `the command has ended: it is ${command.state}, and takes no bundle`);
  await sql`insert into diagnostics (command_id, vm_id, bytes, sha256, content)
    values (${commandId}, ${vmId}, ${content.length}, ${sha256}, ${content})`.execute(tx);
  await sql`delete from diagnostics where vm_id = ${vmId} and command_id not in (select command_id from diagnostics
    where vm_id = ${vmId} order by received_at desc, command_id desc limit ${keptPerVm})`.execute(tx);
}
