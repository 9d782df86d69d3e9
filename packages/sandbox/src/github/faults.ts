import type { Fault } from "./fault-types.ts";

/** Faults that wait for their requests; the oldest that matches is used first and used up. */
export class Faults {
  readonly #waiting: { readonly fault: Fault; readonly path: RegExp; left: number }[] = [];

  add(fault: Fault): void {
    const left = fault.times === null ? Number.POSITIVE_INFINITY : (fault.times ?? 1);
    this.#waiting.push({ fault, path: new RegExp(fault.path), left });
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

/** JSON merge patch (RFC 7396). */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const merged = new Map(
    typeof target === "object" && target !== null && !Array.isArray(target) ? Object.entries(target) : [],
  );
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}
