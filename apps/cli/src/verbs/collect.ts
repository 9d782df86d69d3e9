import { randomUUID } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { formatDurationMs, parseDurationMs, pause, type TarFile, unpackTar } from "@mig/kit";
import { readText, type Unknown } from "@mig/protocol";
import { type Api, ApiError } from "../api.ts";
import type { Asked } from "../options.ts";
import { inPath, pathOf, rowsOf } from "../pages.ts";
import { UsageError } from "../verb.ts";

/** Ordering a bundle of diagnostics, waiting for it, and looking into it. */
const lookMs = 500;
/** What a megabyte of text can hold at the most; more is no bundle of ours. */
const unpackedMax = 64 * 1024 * 1024;

const diagnosticsOf = (vm: string | undefined): string => `vms/${inPath(vm)}/diagnostics`;

export async function listBundles(api: Api, vm: string | undefined): Promise<Unknown[]> {
  return rowsOf(await api.call("GET", pathOf(diagnosticsOf(vm))), "diagnostics");
}

export const takeBundle = (api: Api, vm: string | undefined, commandId: string): Promise<Buffer> =>
  api.download(pathOf(`${diagnosticsOf(vm)}/${inPath(commandId)}`));

/** The key makes one order of it, should the connection break and the order be sent again. */
export async function orderBundle(
  api: Api,
  vm: string | undefined,
  reason: string | undefined,
  expiresMs: number | undefined,
): Promise<Unknown> {
  const parameters = reason === undefined ? {} : { reason };
  return api.call(
    "POST",
    pathOf(`vms/${inPath(vm)}/commands`),
    {
      type: "collect_diagnostics",
      parameters,
      ...(expiresMs === undefined ? {} : { expires_in: formatDurationMs(expiresMs) }),
    },
    { "idempotency-key": randomUUID() },
  );
}

export function readTimeoutMs(text: string | undefined): number {
  const ms = parseDurationMs(text ?? "2m");
  if (ms === undefined || ms < 1_000) throw new UsageError("--timeout takes a duration from 1s, as in 2m");
  return ms;
}

/** In words, while it is waited for. */
const meaning: Readonly<Record<string, string>> = {
  pending: "the order waits for the VM",
  sent: "the order is on its way",
  acknowledged: "the VM collects",
  succeeded: "the bundle is here",
};

/** Orders one and waits until it is stored. Throws ApiError when the VM could not, or not in time. */
export async function collectFresh(
  { api, io, words: [vm] }: Pick<Asked, "api" | "io" | "words">,
  { reason, timeoutMs, say }: { reason: string | undefined; timeoutMs: number; say(line: string): void },
): Promise<Unknown> {
  let command = await orderBundle(api, vm, reason, timeoutMs);
  const id = readText(command, "id") ?? "";
  const untilMs = performance.now() + timeoutMs;
  for (let shown = ""; ; ) {
    const state = readText(command, "state") ?? "?";
    if (state !== shown) say(`${vm}: ${meaning[state] ?? `the order is ${state}`}`);
    shown = state;
    if (state === "succeeded") return command;
    if (command["finished_at"] != null)
      throw new ApiError(
        `${vm} brought no bundle, the order is ${state}: ${readText(command, "message") ?? "no reason given"}`,
      );
    if (io.signal.aborted || performance.now() > untilMs)
      throw new ApiError(
        `no bundle of ${vm} came in time, the order is ${state}; see it later: migctl command show ${id}`,
      );
    await pause(lookMs, io.signal);
    command = await lookPatiently(api, id, command, io.signal);
  }
}

/** A controller that is being restarted is no reason to give up what the VM is doing. */
async function lookPatiently(api: Api, id: string, before: Unknown, signal: AbortSignal): Promise<Unknown> {
  try {
    return await api.call("GET", pathOf(`commands/${inPath(id)}`));
  } catch (error) {
    const isAway = error instanceof ApiError && (error.status === undefined || error.status >= 500);
    if (!isAway || signal.aborted) throw error;
    return before;
  }
}

export function unpackBundle(bundle: Buffer): readonly TarFile[] {
  try {
    return unpackTar(gunzipSync(bundle, { maxOutputLength: unpackedMax }));
  } catch {
    throw new ApiError(
      "what was stored is no bundle that migctl can read; take it with: migctl vm diagnostics",
    );
  }
}
