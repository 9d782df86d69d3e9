import { createHash } from "node:crypto";
import { realpath } from "node:fs/promises";
import { createServer } from "node:net";
import { resolve } from "node:path";
import { MigError } from "@mig/lifecycle";

export interface DirectoryLock {
  release(): Promise<void>;
}

/**
 * Keeps a second agent away from a state directory: two of them would give the same numbers to different events and
 * watch over one runner twice (go-agent-wire A13). It is a name that only one process at a time can have and that the
 * kernel takes back when the process ends, however it ends, so no lock is ever left behind. Off Linux, where there
 * are no such names, it does nothing. Throws MigError `state_unwritable`.
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  if (process.platform !== "linux") return { release: async () => {} };
  const path = await realpath(directory).catch(() => resolve(directory));
  const name = createHash("sha256").update(path).digest("hex").slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((done, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      const message = `Another agent works in the state directory ${path}: stop it, or set state_dir to another one.`;
      // What else can go wrong here is no reason to leave a machine without an agent.
      if (isTaken) reject(new MigError("state_unwritable", message, { cause }));
      else done();
    });
    server.listen(`\0miglet-${name}`, done);
  });
  server.unref();
  return { release: () => new Promise((done) => void server.close(() => done())) };
}
