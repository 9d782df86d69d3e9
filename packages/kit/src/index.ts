export { readFileIfThere, writeFileAtomic } from "./atomic-file.ts";
export { type Backoff, type BackoffSettings, createBackoff, type RetrySettings, retry } from "./backoff.ts";
export { BoundedQueue } from "./bounded-queue.ts";
export { type Clock, pause, systemClock } from "./clock.ts";
export { formatDurationMs, parseDurationMs } from "./duration.ts";
export {
  createLog,
  isLogLevel,
  type Log,
  type LogFields,
  type LogLevel,
  type LogSettings,
  logLevels,
  silentLog,
} from "./log.ts";
export { nearest } from "./nearest.ts";
export { hideValue, REDACTED, redact, redactText } from "./redact.ts";
export { packTar, type TarFile, unpackTar } from "./tar.ts";
export { uuid7 } from "./uuid7.ts";
export { waitFor } from "./wait-for.ts";
