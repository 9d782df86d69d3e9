import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { answersHere, onServer, templateName } from "../../apps/controller/tests/server-database.ts";

/** Vitest's global setup: what the workers of one run share, gone with the run. A directory, and a template database. */
let dir: string;

export function setup(): void {
  dir = mkdtempSync(join(tmpdir(), "mig-run-"));
  process.env["MIG_TEST_RUN_DIR"] = dir;
}

export async function teardown(): Promise<void> {
  rmSync(dir, { recursive: true, force: true });
  if (await answersHere()) await onServer(`drop database if exists ${templateName(dir)} with (force)`);
}
