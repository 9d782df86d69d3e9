import type { Fault } from "./types.ts";

/** Faults that wait for their requests; the oldest that matches is used first and used up. */
export class Faults {
  readonly #waiting: { readonly fault: Fault; readonly path: RegExp; left: number }[] = [];

  add(fault: Fault): void {
    this.#waiting.push({ fault, path: new RegExp(fault.path), left: fault.times ?? 1 });
  }

  clear(): void {
    this.#waiting.splice(0);
  }

  take(method: string, path: string): Fault | undefined {
    const found = this.#waiting.find(
      ({ fault, path: pattern }) =>
        (fault.method === undefined || fault.method === method) && pattern.test(path),
    );
    if (!found) return undefined;
    found.left -= 1;
    if (found.left <= 0) this.#waiting.splice(this.#waiting.indexOf(found), 1);
    return found.fault;
  }
}
