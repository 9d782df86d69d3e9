import { mkdir, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join, sep } from "node:path";
import { asObject, readText } from "@mig/protocol";

/**
 * The directories below `runner.install_root`, one for each runner that was ever installed there:
 *
 *   .partial-<n>    being unpacked, or left half unpacked by an agent that died
 *   <version>-<n>   whole. Beside it `<version>-<n>.json`, as long as no job was in it
 *
 * The mark is beside the directory and not in it: the directory is the runner's user's, and so every job's, which could
 * make itself look like a runner that nobody has used (reliability-security F11).
 */
const markOf = (dir: string): string => `${dir}.json`;

export interface Place {
  readonly dir: string;
  readonly version: string;
  readonly sha256: string;
}

export async function listPlaces(root: string): Promise<Place[]> {
  const names = (await readdir(root).catch(() => [])).filter((name) => name.endsWith(".json"));
  const places = await Promise.all(names.map((name) => readMark(join(root, name.slice(0, -".json".length)))));
  return places.filter((place) => place !== undefined);
}

async function readMark(dir: string): Promise<Place | undefined> {
  try {
    const mark = asObject(JSON.parse(await readFile(markOf(dir), "utf8"))) ?? {};
    const [version, sha256] = [readText(mark, "version"), readText(mark, "sha256")];
    return version === undefined || sha256 === undefined ? undefined : { dir, version, sha256 };
  } catch {
    return undefined;
  }
}

export async function markPlace({ dir, version, sha256 }: Place): Promise<void> {
  await writeFile(markOf(dir), `${JSON.stringify({ version, sha256 })}\n`, { mode: 0o644 });
}

/** From now on a job may be in it: it is never given out again. A directory of the image has no mark. */
export async function retirePlace(dir: string): Promise<void> {
  await rm(markOf(dir), { force: true });
}

/** Made fresh, and readable on the whole way to it, as the Listener demands (runner-contract §1.6). */
export async function makePlace(root: string, prefix: string): Promise<string> {
  await mkdir(root, { recursive: true, mode: 0o755 });
  for (let n = 1; ; n += 1) {
    const dir = join(root, `${prefix}${n}`);
    try {
      await mkdir(dir, { mode: 0o755 });
      return dir;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

/** Removes what is of no use any more; never a directory in which any process lives (go-agent-wire A13). */
export async function removeOld(root: string, keep: ReadonlySet<string>): Promise<string[]> {
  const removed: string[] = [];
  for (const name of await readdir(root).catch(() => [])) {
    const dir = join(root, name);
    if (keep.has(dir) || !/^(?:\.partial-|\d+\.\d+\.\d+-)\d+$/.test(name) || (await isInhabited(dir)))
      continue;
    await retirePlace(dir);
    await rm(dir, { recursive: true, force: true });
    removed.push(dir);
  }
  return removed;
}

/** A process works in it or was started from it. Where that cannot be told, it is taken for inhabited. */
export async function isInhabited(dir: string): Promise<boolean> {
  const within = (path: string): boolean => path === dir || path.startsWith(dir + sep);
  const pids = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
  if (pids.length === 0) return true;
  for (const pid of pids) {
    for (const link of ["cwd", "exe"])
      if (within(await readlink(`/proc/${pid}/${link}`).catch(() => ""))) return true;
    const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
    if (command.split("\0").some(within)) return true;
  }
  return false;
}
