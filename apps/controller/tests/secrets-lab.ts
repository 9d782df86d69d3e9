import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, createLog, type Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { onTestFinished, vi } from "vitest";
import type { SecretAlarm } from "../src/secrets/alarm.ts";
import { openSecrets, type Secrets, type SecretsSettings } from "../src/secrets/open-secrets.ts";

/** Time that passes when a test says so. */
export interface HandClock extends Clock {
  advance(ms: number): void;
}

export function createHandClock(): HandClock {
  let now = 1_000_000;
  let timers: { at: number; run: () => void }[] = [];
  return {
    nowMs: () => 1_800_000_000_000 + now,
    monotonicMs: () => now,
    after(delayMs, run) {
      const timer = { at: now + delayMs, run };
      timers.push(timer);
      return () => {
        timers = timers.filter((one) => one !== timer);
      };
    },
    advance(ms) {
      const until = now + ms;
      for (;;) {
        const next = timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        timers = timers.filter((one) => one !== next);
        now = Math.max(now, next.at);
        next.run();
      }
      now = until;
    },
  };
}

export interface SecretsLab {
  secrets: Secrets;
  alarms: SecretAlarm[];
  lines: string[];
}

/** Everything that is said goes into `lines`. */
export async function openLab(settings: Omit<SecretsSettings, "log" | "onAlarm">): Promise<SecretsLab> {
  const alarms: SecretAlarm[] = [];
  const lines: string[] = [];
  const log: Log = createLog({ level: "debug", write: (line) => void lines.push(line) });
  // Each test tells when enough is enough: no gap, and no waiting for attempts that are not what it is about.
  const rules = { refreshGapMs: 0, ...settings.rules };
  const secrets = await openSecrets({
    random: () => 0.1,
    ...settings,
    rules,
    log,
    onAlarm: (alarm) => alarms.push(alarm),
  });
  onTestFinished(async () => {
    await secrets.close();
    // Some tests say in the environment where a cloud's metadata are: the clouds' own libraries read it.
    vi.unstubAllEnvs();
  });
  return { secrets, alarms, lines };
}

export async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "mig-secrets-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Closes it at the end of the test. */
export function closing<T extends { close(): Promise<void> }>(server: T): T {
  onTestFinished(() => server.close());
  return server;
}

export async function errorOf(work: Promise<unknown>): Promise<MigError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof MigError) return error;
    throw error;
  }
  throw new Error("it should have failed");
}

export function makeRsaPem(bits = 2048): string {
  return generateKeyPairSync("rsa", {
    modulusLength: bits,
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  }).privateKey;
}
