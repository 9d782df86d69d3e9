import { furnish } from "./pglite-template.ts";
import { answersHere, newServerDatabase, onServer } from "./server-database.ts";
import { serverTemplate } from "./server-template.ts";

export interface LabDatabase {
  /** Undefined: it is embedded, in the data directory. */
  readonly databaseUrl: string | undefined;
  drop(): Promise<void>;
}

/**
 * The database of a lab whose tests say nothing about databases: a copy of one with all migrations, on the server if
 * one answers (a third of the processor time, and a tenth of the memory), else embedded in `dataDir`.
 */
export async function newLabDatabase(dataDir: string): Promise<LabDatabase> {
  if (!(await answersHere())) {
    await furnish(dataDir);
    return { databaseUrl: undefined, drop: async () => {} };
  }
  const { name, url } = await newServerDatabase(await serverTemplate());
  return { databaseUrl: url, drop: () => onServer(`drop database if exists ${name} with (force)`) };
}
