import { mkdir, open } from "node:fs/promises";
import { resolve, sep } from "node:path";
import { BoundedQueue, type Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { isId, isKind, type JsonObject } from "@mig/protocol";

/**
 * Sample mode keeps every message also as a file, with the names of the sample controller (seeds 002 and 004;
 * reference/go-agent-wire.md §12): `<data-dir>/<vm_id>/event-<type>-<ts>.json` and so on. Nothing is read back.
 *
 * What a VM names never leaves the data directory: the id and the type must be what they claim, and the resolved
 * path must still be inside (the sample wrote outside it, S8). A file is never overwritten (S10). Files are written
 * one after the other; when the disk cannot keep up the message is refused as `overloaded`. What waits is bounded by
 * its size too: 10,000 messages of a megabyte would be all of the memory (measured: 2.1 GB after 1,500 of them).
 */
export type SampleKind =
  | { file: "event" | "grpc-event"; type: string }
  | { file: "heartbeat" | "grpc-heartbeat" | "registration-token-request" | "registration-token-response" };

export interface SampleFiles {
  keep(vmId: string, kind: SampleKind, content: JsonObject): void;
  /** Resolves when everything kept so far is on disk; nothing is taken after that. */
  close(): Promise<void>;
}

interface Job {
  directory: string;
  name: string;
  text: string;
}

export function openSampleFiles(
  dataDir: string,
  log: Log,
  {
    nowMs = Date.now,
    waitingMax = 10_000,
    waitingBytesMax = 64 * 1024 * 1024,
  }: { nowMs?: () => number; waitingMax?: number; waitingBytesMax?: number } = {},
): SampleFiles {
  const root = resolve(dataDir);
  const queue = new BoundedQueue<Job>(waitingMax);
  let waitingBytes = 0;
  const written = writeAll(queue, log, (job) => {
    waitingBytes -= job.text.length;
  });
  return {
    keep(vmId, kind, content) {
      const name = nameOf(kind, nowMs());
      const directory = resolve(root, vmId);
      if (!isId(vmId) || !directory.startsWith(root + sep)) {
        throw new MigError("invalid_request", "the vm_id cannot name a directory");
      }
      const text = `${JSON.stringify(content, null, 2)}\n`;
      if (waitingBytes + text.length > waitingBytesMax || !queue.push({ directory, name, text })) {
        throw new MigError("overloaded", "too many sample files wait for the disk; send this again later");
      }
      waitingBytes += text.length;
    },
    async close() {
      queue.close();
      await written;
    },
  };
}

function nameOf(kind: SampleKind, nowMs: number): string {
  const stamp = stampOf(nowMs);
  if ("type" in kind) {
    // Whether such an event is taken is not decided here; only its name must not be a path.
    return `${kind.file}-${isKind(kind.type) ? kind.type : "unreadable"}-${stamp}`;
  }
  // The sample puts the second twice into the names of heartbeats that came over HTTP.
  return kind.file === "heartbeat" ? `heartbeat-${stamp.slice(0, 15)}-${stamp}` : `${kind.file}-${stamp}`;
}

/** `20060102-150405.000` in local time. */
function stampOf(nowMs: number): string {
  const at = new Date(nowMs);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}${two(at.getMonth() + 1)}${two(at.getDate())}`;
  const time = `${two(at.getHours())}${two(at.getMinutes())}${two(at.getSeconds())}`;
  return `${day}-${time}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

async function writeAll(queue: BoundedQueue<Job>, log: Log, done: (job: Job) => void): Promise<void> {
  let made = "";
  for await (const job of queue) {
    try {
      if (job.directory !== made) await mkdir(job.directory, { recursive: true, mode: 0o700 });
      made = job.directory;
      await writeNew(job);
    } catch (error) {
      made = ""; // somebody may have removed it
      log.warn({ file: job.name, error }, "a sample file could not be written");
    }
    done(job);
  }
}

/** Messages of one millisecond get `-2`, `-3`, … */
async function writeNew({ directory, name, text }: Job): Promise<void> {
  for (let copy = 1; ; copy += 1) {
    try {
      const file = await open(`${directory}${sep}${name}${copy === 1 ? "" : `-${copy}`}.json`, "wx", 0o600);
      try {
        await file.writeFile(text);
      } finally {
        await file.close();
      }
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}
