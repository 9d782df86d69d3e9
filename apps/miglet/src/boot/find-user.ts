import { readFile } from "node:fs/promises";
import type { RunnerEnvironment } from "../runner/environment.ts";

/** Who the runner runs as, from /etc/passwd. */
export async function findUser(name: string): Promise<NonNullable<RunnerEnvironment["user"]>> {
  const passwd = await readFile("/etc/passwd", "utf8").catch(() => "");
  const line = passwd.split("\n").find((one) => one.startsWith(`${name}:`));
  const [, , uid, gid, , home] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined)
    throw new Error(`There is no user ${name} on this machine: create it, or correct runner.user.`);
  return { name, uid: Number(uid), gid: Number(gid), home: home ?? "/" };
}
