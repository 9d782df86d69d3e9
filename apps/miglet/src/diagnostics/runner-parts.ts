import { basename, join } from "node:path";
import type { RunnerRecord } from "../memory/state-file.ts";
import { hideSecrets } from "./hide-secrets.ts";
import { type Gathered, type Missing, type Part, whyOf } from "./part.ts";
import { openFolder, readTail } from "./read-tail.ts";

/** What actions/runner writes below `_diag`; the time in their names puts them in order. */
const kinds = [
  { pattern: /^Runner_[\w.-]{1,60}\.log$/, bytesMax: 256 * 1024 },
  { pattern: /^Worker_[\w.-]{1,60}\.log$/, bytesMax: 384 * 1024 },
] as const;
const newest = 2;
const outputBytesMax = 64 * 1024;

/** The runner's own logs, what it printed, and what its hooks noted. */
export async function gatherRunner(
  runnerDir: string,
  record: Pick<RunnerRecord, "output" | "hooks"> | undefined,
): Promise<Gathered> {
  const { parts, missing } = await gatherDiag(join(runnerDir, "_diag"));
  for (const { path } of record === undefined ? [] : [record.output, record.hooks])
    await add(parts, missing, `runner/${basename(path)}`, path, outputBytesMax);
  return { parts, missing };
}

async function gatherDiag(path: string): Promise<{ parts: Part[]; missing: Missing[] }> {
  const parts: Part[] = [];
  const missing: Missing[] = [];
  try {
    const folder = await openFolder(path);
    try {
      for (const { pattern, bytesMax } of kinds) {
        const names = folder.names.filter((name) => pattern.test(name)).sort();
        for (const name of names.slice(-newest))
          await add(parts, missing, `runner/_diag/${name}`, folder.pathOf(name), bytesMax);
      }
    } finally {
      await folder.close();
    }
  } catch (error) {
    missing.push({ name: "runner/_diag", why: whyOf(error) });
  }
  return { parts, missing };
}

async function add(
  parts: Part[],
  missing: Missing[],
  name: string,
  path: string,
  bytesMax: number,
): Promise<void> {
  try {
    const { text, dropped } = await readTail(path, bytesMax);
    parts.push({ name, text: await hideSecrets(text), dropped });
  } catch (error) {
    missing.push({ name, why: whyOf(error) });
  }
}
