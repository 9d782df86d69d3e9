import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openStore } from "../src/store/open-store.ts";

const run = promisify(execFile);

/**
 * Puts an embedded database with all migrations into a data directory that holds none. Making one takes two seconds
 * of processor time, copying one a tenth; hundreds of tests want their own. What makes one from nothing is tested
 * where the program itself starts (bin.test.ts, `npm start`).
 */
export async function furnish(dataDir: string): Promise<void> {
  const template = await templateOfThisRun();
  await mkdir(join(dataDir, ".mig"), { recursive: true, mode: 0o700 });
  await run("cp", ["-a", join(template, ".mig", "pglite"), join(dataDir, ".mig", "pglite")]);
}

async function templateOfThisRun(): Promise<string> {
  // tests/lib/run-dir.ts makes a directory for each run and removes it.
  const shared = process.env["MIG_TEST_RUN_DIR"] ?? tmpdir();
  const template = join(shared, "pglite");
  if (existsSync(template)) return template;
  const own = await mkdtemp(join(shared, "pglite-"));
  const store = await openStore({ dataDir: own });
  await store[Symbol.asyncDispose]();
  // Several workers may make it at once: the first rename wins, and the others use that one.
  await rename(own, template).catch(() => rm(own, { recursive: true, force: true }));
  return template;
}
