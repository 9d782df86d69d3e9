import { openStore } from "../src/store/open-store.ts";
import { onServer, serverUrlOf, templateName } from "./server-database.ts";

let made: Promise<string> | undefined;

/** The name of a database with all migrations, to copy: making one anew takes a second and a half on a busy machine. */
export function serverTemplate(): Promise<string> {
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
