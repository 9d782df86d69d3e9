import type { Log } from "@mig/kit";

/**
 * secret_stale      the store has not confirmed it for `staleAlarmMs`, or refuses us; what we hold is used meanwhile
 * secret_refused    the store has a new version that does not hold; the one before stays in use
 * secret_expired    unconfirmed for `staleMaxMs`; it is not given out any more
 * secret_recovered  after any of these
 */
export interface SecretAlarm {
  code: "secret_stale" | "secret_refused" | "secret_expired" | "secret_recovered";
  reference: string;
  message: string;
}

export interface AlarmBell {
  /** Once for each trouble. */
  ring(code: Exclude<SecretAlarm["code"], "secret_recovered">, message: string): void;
  /** Once at its end; nothing when all was well. */
  calm(message: string): void;
}

export function createAlarmBell(
  reference: string,
  onAlarm: (alarm: SecretAlarm) => void,
  log: Log,
): AlarmBell {
  let rung: SecretAlarm["code"] | undefined;
  const tell = (code: SecretAlarm["code"], message: string): void => {
    log[code === "secret_recovered" ? "info" : "error"]({ reference, alarm: code }, message);
    try {
      onAlarm({ code, reference, message });
    } catch (error) {
      log.error({ error, reference }, "an alarm could not be told");
    }
  };
  return {
    ring(code, message) {
      if (rung === code) return;
      rung = code;
      tell(code, message);
    },
    calm(message) {
      if (rung === undefined) return;
      rung = undefined;
      tell("secret_recovered", message);
    },
  };
}
