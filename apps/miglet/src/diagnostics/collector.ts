import { type Log, retry } from "@mig/kit";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import { type DiagnosticsOrder, limits, maybe } from "@mig/protocol";
import type { HttpCalls } from "../link/http-calls.ts";
import type { Outcome } from "../link/inbox.ts";
import type { CollectSettings } from "./collect-bundle.ts";

/** Collects a bundle of diagnostics and brings it to the controller. One at a time: `life.ts` sees to that. */
export interface Collector {
  /** Resolves when the controller has stored the bundle, or with why it has not. */
  collect(commandId: string, wanted: DiagnosticsOrder): Promise<Outcome>;
  /** What is under way is given up. */
  stop(): void;
}

export interface CollectorSettings extends CollectSettings {
  /** Undefined: no address of the controller is known that speaks HTTP. */
  bring?: HttpCalls["putDiagnostics"];
  retryFirstMs?: number;
  withinMs?: number;
  log: Log;
}

/** Worth another try, besides whatever the controller says when to try again. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "controller_unreachable",
  "unauthenticated",
  "overloaded",
  "rate_limited",
  "storage_unavailable",
  "shutting_down",
  "internal",
]);

export function createCollector(settings: CollectorSettings): Collector {
  const { bring, log, withinMs = limits.diagnosticsWithinMs, retryFirstMs = 1_000 } = settings;
  let stopping = new AbortController();

  const collect: Collector["collect"] = async (commandId, wanted) => {
    if (bring === undefined)
      return { success: false, message: "No way to bring a bundle is known: set controller.endpoint." };
    stopping = new AbortController();
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(withinMs)]);
    // Loaded when it is asked for: most VMs never are, and each module costs them memory.
    const { collectBundle } = await import("./collect-bundle.ts");
    const { content, sha256, files, truncated } = await collectBundle(settings, commandId, wanted);
    const bytes = content.length;
    log.info({ command_id: commandId, bytes, files: files.length, truncated }, "Diagnostics were collected.");
    // The same bytes go each time: an upload whose answer was lost is taken for what it is.
    await retry(() => bring(commandId, content, sha256, signal), {
      firstMs: retryFirstMs,
      capMs: 30_000,
      attemptsMax: Number.POSITIVE_INFINITY,
      signal,
      classify: (error) => {
        const { code, retryAfterMs } = error instanceof MigError ? error : {};
        const again = retryAfterMs !== undefined || (code !== undefined && passing.has(code));
        if (again) log.warn({ error, command_id: commandId }, "A bundle could not be brought yet.");
        return { retry: again, ...maybe("hintMs", retryAfterMs) };
      },
    });
    return { success: true, result: { bytes, sha256, files: [...files], truncated } };
  };

  return {
    collect: (commandId, wanted) =>
      collect(commandId, wanted).catch((error: unknown) => {
        log.warn({ error, command_id: commandId }, "Diagnostics could not be brought.");
        const why = error instanceof Error ? error.message : String(error);
        return { success: false, message: `The bundle could not be brought: ${why}` };
      }),
    stop: () => stopping.abort(),
  };
}
