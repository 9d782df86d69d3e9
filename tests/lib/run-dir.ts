import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Vitest's global setup: a directory for what the workers of one run share, gone with the run. */
let dir: string;

export function setup(): void {
  dir = mkdtempSync(join(tmpdir(), "mig-run-"));
  process.env["MIG_TEST_RUN_DIR"] = dir;
}

export function teardown(): void {
  rmSync(dir, { recursive: true, force: true });
}
