import { MigError } from "@mig/lifecycle";

/** For clients that take no signal: whoever waits stops waiting, what comes later is nobody's. */
export function within<T>(work: Promise<T>, signal: AbortSignal, who: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = (): void => reject(new MigError("secret_unavailable", `${who} does not answer in time`));
    if (signal.aborted) late();
    signal.addEventListener("abort", late, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", late));
  });
}
