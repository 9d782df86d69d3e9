import type { Table } from "../store/table.ts";

/** One version of one secret. */
export interface SecretRow {
  name: string;
  version: number;
  /** An envelope: see envelope.ts. */
  sealed: string;
  createdAtMs: number;
}

export const secretsTable: Table<SecretRow> = {
  name: "secrets",
  columns: { name: "text", version: "int", sealed: "text", createdAtMs: "time" },
};
