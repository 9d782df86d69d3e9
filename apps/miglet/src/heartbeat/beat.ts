import { type Clock, type Log, systemClock } from "@mig/kit";
import type { Heartbeat, HeartbeatReply } from "@mig/protocol";

export interface BeatSettings {
  intervalMs: number;
  /** Makes the newest heartbeat at the moment it is sent. */
  make(): Promise<Heartbeat>;
  /** `ChosenLink.sendHeartbeat`. */
  send(beat: Heartbeat): Promise<HeartbeatReply | undefined>;
  /** After each try: the answer, or why there was none. */
  onSent?(outcome: { reply?: HeartbeatReply; error?: unknown }): void;
  log: Log;
  clock?: Clock;
}

/**
 * Beats each interval, and at once when asked. Beats never overlap: what is asked for during a beat is one more beat
 * right after it, made then, so that only the newest ever waits. The server's answer sets the interval.
 */
export interface HeartbeatPulse {
  start(): void;
  beatNow(): void;
  setIntervalMs(intervalMs: number): void;
  intervalMs(): number;
  close(): Promise<void>;
}

/** A controller that asks for less would have the VM do nothing else. Tests configure less for themselves. */
const intervalMsMin = 1_000;
const intervalMsMax = 10 * 60_000;

export function createPulse(settings: BeatSettings): HeartbeatPulse {
  const { log, clock = systemClock } = settings;
  const lowMs = Math.min(intervalMsMin, settings.intervalMs);
  const clamp = (wantedMs: number): number =>
    // Zero made the predecessor panic (go-agent-wire A28); a timer of more than 24 days fires at once.
    Number.isFinite(wantedMs) ? Math.min(intervalMsMax, Math.max(lowMs, wantedMs)) : 15_000;
  let intervalMs = clamp(settings.intervalMs);
  let cancel = (): void => {};
  let beating: Promise<void> | undefined;
  let isAskedAgain = false;
  let isOn = false;

  const beat = async (): Promise<void> => {
    try {
      const reply = await settings.send(await settings.make());
      if (reply !== undefined && reply.nextIntervalMs > 0) intervalMs = clamp(reply.nextIntervalMs);
      settings.onSent?.(reply === undefined ? {} : { reply });
    } catch (error) {
      log.debug({ error }, "A heartbeat reached nobody.");
      settings.onSent?.({ error });
    }
  };
  const beatAndWait = (): void => {
    cancel();
    if (beating !== undefined) {
      isAskedAgain = true;
      return;
    }
    beating = beat().finally(() => {
      beating = undefined;
      if (!isOn) return;
      if (isAskedAgain) {
        isAskedAgain = false;
        beatAndWait();
      } else cancel = clock.after(intervalMs, beatAndWait);
    });
  };

  return {
    start() {
      if (isOn) return;
      isOn = true;
      beatAndWait();
    },
    beatNow() {
      if (isOn) beatAndWait();
    },
    setIntervalMs(wanted) {
      intervalMs = clamp(wanted);
      if (!isOn || beating !== undefined) return;
      cancel();
      cancel = clock.after(intervalMs, beatAndWait);
    },
    intervalMs: () => intervalMs,
    async close() {
      isOn = false;
      cancel();
      await beating;
    },
  };
}
