import { isIP } from "node:net";
import { formatDurationMs, parseDurationMs } from "@mig/kit";
import type { Problem, Written } from "./env.ts";
import { describe, flagOf, type SettingName, variableOf } from "./settings.ts";

export interface Address {
  host: string;
  port: number;
}

export interface Effective extends Written {
  name: SettingName;
}

/** Timers hold 2^31 ms; anything near it is a typing error. */
const timerMsMax = 2 ** 31 - 1;

/** Reads one setting after the other and collects what is wrong with them, so that all of it is told at once. */
export class Values {
  readonly problems: Problem[];
  /** Everything that was asked for, with where it came from: what `mig-controller config` prints. */
  readonly effective: Effective[] = [];
  readonly #written: ReadonlyMap<SettingName, Written>;

  constructor(written: ReadonlyMap<SettingName, Written>, problems: Problem[]) {
    this.#written = written;
    this.problems = problems;
  }

  isWritten(name: SettingName): boolean {
    return this.#written.has(name);
  }

  /** The setting's text: as written, else `otherwise`, else its default. */
  text(name: SettingName, otherwise?: string): string | undefined {
    const fallback = otherwise ?? describe(name).fallback;
    const found =
      this.#written.get(name) ?? (fallback === undefined ? undefined : { text: fallback, source: "default" });
    if (found !== undefined) this.effective.push({ name, ...found });
    return found?.text;
  }

  switch(name: SettingName): boolean {
    const text = this.text(name) ?? "false";
    if (text === "true" || text === "1") return true;
    if (text !== "false" && text !== "0") this.refuse(name, "must be true or false");
    return false;
  }

  durationMs(
    name: SettingName,
    { otherwise, minMs = 1, maxMs = timerMsMax }: { otherwise?: number; minMs?: number; maxMs?: number } = {},
  ): number {
    const text = this.text(name, otherwise === undefined ? undefined : formatDurationMs(otherwise)) ?? "";
    const ms = parseDurationMs(text);
    if (ms === undefined)
      this.refuse(
        name,
        /^\d+$/.test(text) ? `needs a unit; write ${text}s` : "must be a duration, as in 15s or 2m",
      );
    else if (ms < minMs) this.refuse(name, `must be at least ${formatDurationMs(minMs)}`);
    else if (ms > maxMs) this.refuse(name, `must be at most ${Math.floor(maxMs / 86_400_000)}d`);
    else return ms;
    return Number.NaN;
  }

  count(name: SettingName): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
    this.refuse(name, "must be a whole number above 0");
    return undefined;
  }

  choice<C extends string>(name: SettingName, choices: readonly C[], otherwise?: C): C | undefined {
    const text = this.text(name, otherwise);
    const chosen = choices.find((choice) => choice === text);
    if (text !== undefined && chosen === undefined) this.refuse(name, `must be one of ${choices.join(", ")}`);
    return chosen;
  }

  url(name: SettingName): string {
    const text = this.text(name) ?? "";
    const problem = problemOfUrl(text);
    if (problem !== undefined) this.refuse(name, problem);
    return text.replace(/\/+$/, "");
  }

  list(name: SettingName): string[] {
    return (this.text(name) ?? "")
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== "");
  }

  /** "off" is no address. */
  address(name: SettingName): Address | undefined {
    const text = this.text(name) ?? "";
    if (text === "off") return undefined;
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
    const [, v6, name4, port] = match ?? [];
    const host = v6 ?? name4;
    if (host === undefined || Number(port) > 65_535 || (v6 !== undefined && isIP(v6) !== 6)) {
      this.refuse(name, "must be HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080");
      return undefined;
    }
    return { host, port: Number(port) };
  }

  /** What it says, where it was written, what to do instead. A secret's text is not repeated. */
  refuse(name: SettingName, rule: string): void {
    const { fallback, isSecret } = describe(name);
    const written = this.#written.get(name);
    const text = written?.text ?? fallback;
    const shown =
      text === undefined
        ? "is missing"
        : isSecret === true
          ? "is set"
          : `"${withoutCredentials(text).slice(0, 100)}"`;
    const source = written?.source ?? `${flagOf(name)} or ${variableOf(name)}`;
    this.problems.push({ message: `${name} ${shown} (${source}): it ${rule}` });
  }
}

/** `https://user:password@host` without the middle: what is refused for holding a secret must not repeat it. */
function withoutCredentials(text: string): string {
  return text.replace(/\/\/[^/?#]*@/, "//…@");
}

export function problemOfUrl(text: string): string | undefined {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    return "must be a URL that begins with https:// or http://";
  if (url.username !== "" || url.password !== "") return "must not hold credentials";
  if (url.protocol === "http:" && !isLoopback(url.hostname))
    return "must begin with https:// unless it is this machine";
  return undefined;
}

export function isLoopback(host: string): boolean {
  return (
    host === "localhost" ||
    host === "::1" ||
    host === "[::1]" ||
    (isIP(host) === 4 && host.startsWith("127."))
  );
}

export function formatAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
