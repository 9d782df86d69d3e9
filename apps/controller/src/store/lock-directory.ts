import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MigError } from "@mig/lifecycle";

/**
 * Two processes on one PGlite directory would destroy it. The lock is a file with the holder's pid; one whose
 * holder is dead (kill -9) is taken over. It appears with its content (a link), so nobody reads it half made, and is
 * moved away before it is judged dead for good, so that of two who find it dead neither removes the other's.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const path = join(directory, "lock");
  const mine = `${path}.${process.pid}`;
  const dead = `${mine}.dead`;
  try {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await writeFile(mine, String(process.pid), { mode: 0o600 });
      if (await isLinked(mine, path)) return () => rm(path, { force: true });
      refuseIfAlive(directory, await readFile(path, "utf8").catch(() => ""));
      await rename(path, dead).catch(() => {});
      const moved = await readFile(dead, "utf8").catch(() => "");
      if (isHeld(moved)) await isLinked(dead, path);
      await rm(dead, { force: true });
      refuseIfAlive(directory, moved);
    }
  } finally {
    await rm(mine, { force: true });
  }
  throw new MigError("storage_unavailable", `${path} cannot be taken: others take it at the same time`);
}

async function isLinked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function isHeld(content: string): boolean {
  const holder = Number(content);
  return holder !== process.pid && isAlive(holder);
}

function refuseIfAlive(directory: string, content: string): void {
  if (!isHeld(content)) return;
  throw new MigError(
    "storage_unavailable",
    `${directory} is in use by process ${content}; stop it, or give this controller another --data-dir`,
  );
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
