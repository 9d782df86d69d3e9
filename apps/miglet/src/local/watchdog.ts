import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { type Log, pause } from "@mig/kit";

export interface WatchdogSettings {
  /** systemd's variables; without them nothing is told to anybody. */
  notifySocket: string | undefined;
  watchdogUsec: string | undefined;
  /** An input goes through the mailbox and the loops that must not stand still have run. */
  isAlive(): Promise<boolean>;
  /** For tests; systemd's own otherwise. */
  program?: string;
  log: Log;
}

export interface Watchdog {
  /** READY=1, STATUS=…, STOPPING=1: sd_notify(3). Never rejects, never two at once. */
  tell(...lines: string[]): Promise<void>;
  close(): void;
}

const programDefault = "/usr/bin/systemd-notify";
/** systemd-notify does nothing but send one datagram. */
const notifyMs = 5_000;

/**
 * Tells systemd how the agent is, and feeds its watchdog at half of its time, but only while the agent really lives:
 * a process whose loops stand still is started again, and the next one finds the runner. Neither Node nor Bun has unix
 * datagram sockets, so systemd's own program sends them (NotifyAccess=all in the unit).
 */
export async function startWatchdog(settings: WatchdogSettings): Promise<Watchdog> {
  const { notifySocket, watchdogUsec, isAlive, program = programDefault, log } = settings;
  if (notifySocket === undefined || notifySocket === "") return { tell: async () => {}, close: () => {} };
  const hasProgram = await access(program, constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!hasProgram) {
    log.warn({ program }, "systemd is not told how the agent is: there is no systemd-notify.");
    return { tell: async () => {}, close: () => {} };
  }
  const closing = new AbortController();
  let telling: Promise<void> = Promise.resolve();
  const tell = (...lines: string[]): Promise<void> => {
    telling = telling.then(() => send(program, notifySocket, lines, log));
    return telling;
  };
  const feedMs = Number(watchdogUsec) / 2_000;
  if (Number.isFinite(feedMs) && feedMs >= 1) void feed(feedMs);

  async function feed(everyMs: number): Promise<void> {
    while (!closing.signal.aborted) {
      const late = new AbortController();
      const alive = await Promise.race([
        isAlive().catch(() => false),
        pause(everyMs, late.signal).then(() => false),
      ]);
      late.abort();
      if (alive) await tell("WATCHDOG=1");
      else log.error({}, "The agent stands still; systemd will start it again.");
      await pause(everyMs, closing.signal);
    }
  }

  return { tell, close: () => closing.abort() };
}

function send(program: string, socket: string, lines: string[], log: Log): Promise<void> {
  return new Promise((resolve) => {
    const options = { timeout: notifyMs, env: { NOTIFY_SOCKET: socket } };
    execFile(program, lines, options, (error) => {
      if (error !== null) log.debug({ error }, "systemd could not be told.");
      resolve();
    });
  });
}
