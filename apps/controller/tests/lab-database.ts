import { openStore } from "../src/store/open-store.ts";
import { furnish } from "./pglite-template.ts";
import { answersHere, newServerDatabase, onServer, serverUrlOf, templateName } from "./server-database.ts";

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
  const { name, url } = await newServerDatabase(await templateOfThisRun());
  return { databaseUrl: url, drop: () => onServer(`drop database if exists ${name} with (force)`) };
}

let made: Promise<string> | undefined;

function templateOfThisRun(): Promise<string> {
  made ??= makeTemplate(templateName(process.env["MIG_TEST_RUN_DIR"] ?? String(process.pid)));
  return made;
}

async function makeTemplate(name: string): Promise<string> {
  // Several workers want it at once. The lock is a session's, and holds while the one that has it makes it.
  await onServer(`select pg_advisory_lock(hashtext('${name}'))`, async (ask) => {
    const found = await ask(`select 1 from pg_database where datname = '${name}'`);
    if (found > 0) return;
    const draft = `${name}_draft`;
    await ask(`drop database if exists ${draft}`);
    await ask(`create database ${draft}`);
    const store = await openStore({ dataDir: "", databaseUrl: serverUrlOf(draft) });
    await store[Symbol.asyncDispose]();
    await ask(`alter database ${draft} rename to ${name}`);
  });
  return name;
}
