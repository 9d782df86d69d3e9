import { MigError } from "@mig/lifecycle";
import type { Command, GoAway } from "@mig/protocol";
import type { VmRow } from "../store/rows.ts";
import type { Deliver } from "./deliver.ts";
import type { LiveSession } from "./registry.ts";

/** The session of an agent that polls. It has a wire only while a request is held. */
export class PollSession implements LiveSession {
  readonly channel = "poll";
  readonly vmId: string;
  readonly epoch: number;
  readonly incarnation: string;
  readonly named: string | undefined;
  #wake: (() => void) | undefined;
  #ended: GoAway | undefined;
  #turn = 0;
  #lastMs = performance.now();

  constructor(vm: VmRow, named: string | undefined) {
    this.vmId = vm.vmId;
    this.epoch = vm.sessionEpoch;
    this.incarnation = vm.incarnation;
    this.named = named;
  }

  wake(): void {
    this.#wake?.();
  }

  end(goAway: GoAway): void {
    this.#ended = goAway;
    this.#wake?.();
  }

  /** A newer request of the same VM has come: the held one ends with `superseded`. */
  takeTurn(): number {
    this.#turn += 1;
    this.#wake?.();
    return this.#turn;
  }

  isIdle(idleMs: number): boolean {
    return this.#wake === undefined && performance.now() - this.#lastMs > idleMs;
  }

  async wait(deliver: Deliver, turn: number, waitMs: number, signal: AbortSignal): Promise<Command[]> {
    const untilMs = performance.now() + waitMs;
    try {
      for (;;) {
        if (this.#turn !== turn || this.#ended?.reason === "superseded") {
          throw new MigError("superseded", `a newer request or stream of ${this.vmId} has taken over`);
        }
        if (this.#ended !== undefined) return [];
        // Listen before looking: what is queued in between wakes this wait.
        let woken = false;
        let wakeUp: () => void = () => {};
        const wakened = new Promise<void>((resolve) => {
          wakeUp = resolve;
        });
        this.#wake = () => {
          woken = true;
          wakeUp();
        };
        const command = await deliver(this.vmId, this.epoch);
        if (command !== undefined) return [command];
        const leftMs = untilMs - performance.now();
        if (leftMs <= 0 || signal.aborted) return [];
        if (!woken) await first(wakened, leftMs, signal);
      }
    } finally {
      // However it ended; but the wake of a newer request stays.
      if (this.#turn === turn) this.#wake = undefined;
      this.#lastMs = performance.now();
    }
  }
}

function first(event: Promise<void>, waitMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, waitMs);
    signal.addEventListener("abort", done, { once: true });
    void event.then(done);
  });
}
