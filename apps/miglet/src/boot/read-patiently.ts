import { createBackoff, type Log, pause } from "@mig/kit";
import { type ReadSettings, readSettings, type SettingSources } from "./settings.ts";

/** Seed 001, "Retry Strategy": from one second to thirty, five times. The settings that say otherwise are not read yet. */
const retry = { firstMs: 1_000, capMs: 30_000, timesMax: 5 };

/**
 * A machine that gets everything from metadata may start before its metadata service answers. Then its settings are
 * not wrong but unknown, and are read again; settings that are wrong anyway are wrong at once.
 */
export async function readPatiently(
  sources: SettingSources,
  log: Log,
  { firstMs, capMs, timesMax }: typeof retry = retry,
): Promise<ReadSettings> {
  const backoff = createBackoff({ firstMs, capMs });
  for (let times = 0; ; times += 1) {
    const read = await readSettings(sources);
    if (!read.isTransient || times >= timesMax) return read;
    const why = read.problems.find(({ key }) => key === "metadata.source")?.message;
    log.warn({ component: "bootstrap", why }, "The settings are not complete; metadata is asked again.");
    await pause(backoff.nextMs());
  }
}
