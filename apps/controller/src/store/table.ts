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

/** The texts follow from the table alone and are wanted several times in each transaction. */
function writtenOnce<T>(write: (table: Table<never>) => T): <R>(table: Table<R>) => T {
  const texts = new WeakMap<object, T>();
  return (table) => {
    const known = texts.get(table);
    if (known !== undefined) return known;
    const text = write(table as Table<never>);
    texts.set(table, text);
    return text;
  };
}

function entries<R>(table: Table<R>): [property: string, kind: Kind][] {
  return Object.entries(table.columns) as [string, Kind][];
}

const plainColumns = writtenOnce((table) => sql.raw(columnTexts(table, "")));

/** `vm_id as "vmId", …`; `prefix` says whose columns they are, where a name alone would be ambiguous. */
export function columnList<R>(table: Table<R>, prefix?: string): RawBuilder<R> {
  const list = prefix === undefined ? plainColumns(table) : sql.raw(columnTexts(table, `${prefix}.`));
  return list as RawBuilder<R>;
}

function columnTexts<R>(table: Table<R>, prefix: string): string {
  const list = entries(table).map(([property, kind]) => {
    const column = `${prefix}${columnOf(property, kind)}`;
    if (kind === "time") return `round(extract(epoch from ${column}) * 1000)::float8 as "${property}"`;
    return kind === "int" ? `${column}::float8 as "${property}"` : `${column} as "${property}"`;
  });
  return list.join(", ");
}

const shapeOf = writtenOnce((table) =>
  sql.raw(
    entries(table)
      .map(([property, kind]) => `"${property}" ${sqlTypes[kind]}`)
      .join(", "),
  ),
);

function recordset<R>(table: Table<R>, rows: readonly R[]): RawBuilder<unknown> {
  return sql`jsonb_to_recordset(${toJsonParameter(rows)}::jsonb) as r(${shapeOf(table)})`;
}

function valueSql([property, kind]: [string, Kind]): string {
  return kind === "time" ? `to_timestamp(r."${property}" / 1000.0)` : `r."${property}"`;
}

const insertOf = writtenOnce((table) => {
  const columns = entries(table).map(([property, kind]) => columnOf(property, kind));
  const values = entries(table).map(valueSql);
  return sql.raw(`insert into ${table.name} (${columns.join(", ")}) select ${values.join(", ")} from `);
});

export function insertRows<R>(table: Table<R>, rows: readonly R[]): RawBuilder<unknown> {
  return sql`${insertOf(table)}${recordset(table, rows)}`;
}

const changesOf = writtenOnce((table) =>
  entries(table).map((entry) => ({
    property: entry[0],
    text: `${columnOf(...entry)} = ${valueSql(entry)}`,
  })),
);

export function updateRows<R>(
  table: Table<R>,
  key: keyof R & string,
  rows: readonly R[],
): RawBuilder<unknown> {
  const changes = changesOf(table)
    .filter(({ property }) => property !== key)
    .map(({ text }) => text);
  const keyColumn = columnOf(key, table.columns[key]);
  return sql`${sql.raw(`update ${table.name} t set ${changes.join(", ")} from `)}${recordset(table, rows)}
    where ${sql.raw(`t.${keyColumn} = r."${key}"`)}`;
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
