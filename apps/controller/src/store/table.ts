import { type RawBuilder, sql } from "kysely";

/**
 * A table told once: the property names the code uses, in order, with the kind of each column. From it come the
 * column list of a SELECT and the bulk INSERT and UPDATE, which carry all rows as one JSON parameter and so are the
 * same statement for one row and for five hundred, on PGlite and on a server.
 *
 * `time` columns are timestamptz in the database and unix milliseconds in the code.
 */
export type Kind = "text" | "int" | "bool" | "json" | "time";
export type Columns<R> = { readonly [K in keyof R & string]: Kind };

export interface Table<R> {
  readonly name: string;
  readonly columns: Columns<R>;
}

const sqlTypes: Record<Kind, string> = {
  text: "text",
  int: "bigint",
  bool: "boolean",
  json: "jsonb",
  time: "float8",
};

/** `startedAtMs` → `started_at`, `vmId` → `vm_id`. */
function columnOf(property: string, kind: Kind): string {
  const name = property.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return kind === "time" ? name.replace(/_ms$/, "") : name;
}

function entries<R>(table: Table<R>): [property: string, kind: Kind][] {
  return Object.entries(table.columns) as [string, Kind][];
}

/** `vm_id as "vmId", …`; `prefix` says whose columns they are, where a name alone would be ambiguous. */
export function columnList<R>(table: Table<R>, prefix?: string): RawBuilder<R> {
  const list = entries(table).map(([property, kind]) => {
    const column = `${prefix === undefined ? "" : `${prefix}.`}${columnOf(property, kind)}`;
    if (kind === "time") return `round(extract(epoch from ${column}) * 1000)::float8 as "${property}"`;
    return kind === "int" ? `${column}::float8 as "${property}"` : `${column} as "${property}"`;
  });
  return sql.raw<R>(list.join(", "));
}

function recordset<R>(table: Table<R>, rows: readonly R[]): RawBuilder<unknown> {
  const shape = entries(table).map(([property, kind]) => `"${property}" ${sqlTypes[kind]}`);
  return sql`jsonb_to_recordset(${toJsonParameter(rows)}::jsonb) as r(${sql.raw(shape.join(", "))})`;
}

function valueSql([property, kind]: [string, Kind]): string {
  return kind === "time" ? `to_timestamp(r."${property}" / 1000.0)` : `r."${property}"`;
}

export function insertRows<R>(table: Table<R>, rows: readonly R[]): RawBuilder<unknown> {
  const columns = entries(table).map(([property, kind]) => columnOf(property, kind));
  const values = entries(table).map(valueSql);
  return sql`insert into ${sql.raw(table.name)} (${sql.raw(columns.join(", "))})
    select ${sql.raw(values.join(", "))} from ${recordset(table, rows)}`;
}

export function updateRows<R>(
  table: Table<R>,
  key: keyof R & string,
  rows: readonly R[],
): RawBuilder<unknown> {
  const changes = entries(table)
    .filter(([property]) => property !== key)
    .map(([property, kind]) => `${columnOf(property, kind)} = ${valueSql([property, kind])}`);
  const keyColumn = columnOf(key, table.columns[key]);
  return sql`update ${sql.raw(table.name)} t set ${sql.raw(changes.join(", "))}
    from ${recordset(table, rows)} where t.${sql.raw(keyColumn)} = r.${sql.raw(`"${key}"`)}`;
}

/** The texts of a JSON array parameter, for `where x in (…)`. */
export function textsIn(texts: readonly string[]): RawBuilder<unknown> {
  return sql`(select jsonb_array_elements_text(${toJsonParameter(texts)}::jsonb))`;
}

/** JSON that jsonb takes: PostgreSQL holds neither NUL nor half a surrogate pair. */
export function toJsonParameter(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === "string" ? item.replaceAll("\0", "\uFFFD").toWellFormed() : item,
  );
}
