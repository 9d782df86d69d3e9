import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { MigError } from "@mig/lifecycle";

/**
 * Two processes on one PGlite directory would destroy it. The lock is a file with the holder's pid; one whose
 * holder is dead (kill -9) is taken over.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const path = join(directory, "lock");
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      const file = await open(path, "wx", 0o600);
      await file.writeFile(String(process.pid));
      await file.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const holder = Number(await readFile(path, "utf8").catch(() => ""));
      if (holder !== process.pid && isAlive(holder)) {
        throw new MigError(
          "storage_unavailable",
          `${directory} is in use by process ${holder}; stop it, or give this controller another --data-dir`,
        );
      }
      await rm(path, { force: true });
    }
  }
  throw new MigError("storage_unavailable", `${path} cannot be taken: others take it at the same time`);
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
