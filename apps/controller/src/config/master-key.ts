import { randomBytes } from "node:crypto";
import { chmod, link, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MigError } from "@mig/lifecycle";

/**
 * The key for what is encrypted in the database: 32 random bytes, base64. Without a file of the operator's own it is
 * made once below the data directory; several replicas need one and the same file.
 */
export async function readMasterKey(dataDir: string, givenPath?: string): Promise<Buffer> {
  const path = givenPath ?? join(dataDir, ".mig", "master.key");
  const existing = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" && givenPath === undefined) return undefined;
    throw new MigError(
      "secret_unavailable",
      `the master key ${path} cannot be read (${cause.code ?? "error"})`,
      { cause },
    );
  });
  const text = existing ?? (await makeKey(path));
  const key = Buffer.from(text.trim(), "base64");
  if (key.length !== 32)
    throw new MigError(
      "secret_invalid",
      `${path} is no master key: 32 random bytes in base64, as "openssl rand -base64 32" prints them`,
    );
  return key;
}

/** Whole or not at all, and never over one that another process has just made. */
async function makeKey(path: string): Promise<string> {
  await mkdir(join(path, ".."), { recursive: true, mode: 0o700 });
  const fresh = `${path}.${process.pid}`;
  await writeFile(fresh, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
  await chmod(fresh, 0o600);
  await link(fresh, path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  await rm(fresh);
  return readFile(path, "utf8");
}
