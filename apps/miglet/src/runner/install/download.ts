import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rm, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { createBackoff, type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { fetchPart, type Part, Refused } from "./fetch-part.ts";

export interface DownloadSettings {
  url: URL;
  sha256: string;
  /** Below a directory that is only the agent's: never a name that somebody else can make first (go-agent-wire A12). */
  path: string;
  /** With all its retries. */
  timeoutMs: number;
  idleMs?: number;
  proxy?: URL | undefined;
  ca?: string | undefined;
  signal: AbortSignal;
  log: Log;
}

/** The archive of actions/runner is about 200 MB and unpacks to some 600. */
const bytesMax = 2 * 1024 * 1024 * 1024;
const unpackedShare = 4;
const progressMs = 1_000;

/**
 * Downloads the archive and checks it; what is at `path` afterwards is exactly what the checksum says. A connection
 * that breaks is taken up where it broke. Throws `runner_install_failed` when time may help, `runner_not_installed`
 * when it will not.
 */
export async function download(settings: DownloadSettings): Promise<void> {
  const { url, path, timeoutMs, signal, log } = settings;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const late = AbortSignal.timeout(timeoutMs);
  const limit = AbortSignal.any([signal, late]);
  const backoff = createBackoff({ firstMs: 500, capMs: 10_000 });
  const file = { bytes: 0, tag: undefined as string | undefined };
  try {
    for (;;) {
      try {
        await fetchInto(settings, file, limit);
        break;
      } catch (error) {
        if (signal.aborted)
          throw new MigError("runner_install_failed", "The download was given up because the agent stops.");
        if (late.aborted)
          throw new MigError(
            "runner_install_failed",
            `${url.host} did not send the runner within ${timeoutMs} ms: see runner.download_timeout.`,
          );
        if (error instanceof MigError) throw error;
        if (error instanceof Refused && error.status < 500 && error.status !== 408 && error.status !== 429)
          throw new MigError(
            "runner_not_installed",
            `${url.href} cannot be had (${error.message}): check runner.download_url and the version.`,
          );
        log.warn({ error, bytes: file.bytes }, "The download of the runner broke off; it is taken up again.");
        await pause(backoff.nextMs(), limit);
      }
    }
    const found = await sha256Of(path);
    if (found !== settings.sha256)
      throw new MigError(
        "runner_not_installed",
        `${url.href} is not what runner.sha256 says: it is ${found}. Correct the checksum, or find out who changed the file.`,
      );
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

async function fetchInto(
  { url, path, idleMs = 30_000, proxy, ca, log }: DownloadSettings,
  file: { bytes: number; tag: string | undefined },
  signal: AbortSignal,
): Promise<void> {
  const part = await fetchPart({ url, from: file.bytes, tag: file.tag, proxy, ca, idleMs, signal });
  if (!part.isRest) file.bytes = 0;
  file.tag = part.tag;
  await checkRoom(part, file.bytes, path);
  const handle = await open(path, part.isRest ? "r+" : "w", 0o600);
  let saidAtMs = performance.now();
  try {
    for await (const chunk of part.body as AsyncIterable<Buffer>) {
      await handle.write(chunk, 0, chunk.length, file.bytes);
      file.bytes += chunk.length;
      if (file.bytes > bytesMax)
        throw new MigError(
          "runner_not_installed",
          `${url.href} is larger than ${bytesMax} bytes, which no runner is.`,
        );
      if (performance.now() - saidAtMs < progressMs) continue;
      saidAtMs = performance.now();
      log.info({ bytes: file.bytes, total: part.totalBytes }, "The runner is being downloaded.");
    }
    if (part.totalBytes !== undefined && file.bytes < part.totalBytes)
      throw new Error("the connection ended early");
  } finally {
    part.body.destroy();
    await handle.close();
  }
}

async function checkRoom({ totalBytes }: Part, haveBytes: number, path: string): Promise<void> {
  if (totalBytes === undefined) return;
  const { bavail, bsize } = await statfs(dirname(path));
  const neededMib = Math.ceil((totalBytes * (1 + unpackedShare) - haveBytes) / 1024 / 1024);
  const freeMib = Math.floor((bavail * bsize) / 1024 / 1024);
  if (freeMib < neededMib)
    throw new MigError(
      "resources_low",
      `The runner needs ${neededMib} MiB to be installed and ${dirname(path)} has ${freeMib}: use a larger disk.`,
    );
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
