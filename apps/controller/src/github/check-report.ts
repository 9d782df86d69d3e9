/** What a probe of a GitHub App found. `migctl github check` and the API show the same lines. */
export interface CheckReport {
  app: string;
  /** Everything that is required is well. */
  ok: boolean;
  checkedAtMs: number;
  checks: CheckLine[];
}

/**
 * key           a reference leads to an RSA key that can be used
 * app           GitHub takes a JWT of that key, and it is this App
 * clock         our clock and GitHub's agree
 * permissions   what the App was given is enough, and no more than that
 * installation  it is installed where runners are to be, and not suspended
 * runner_group  the group exists, and who may use it is bounded
 * rate_limit    there is something left of GitHub's limits
 * version       which GitHub it is
 * pools         there is something for the App to do
 */
export const checkNames = [
  "key",
  "app",
  "clock",
  "permissions",
  "installation",
  "runner_group",
  "rate_limit",
  "version",
  "pools",
] as const;
export type CheckName = (typeof checkNames)[number];

export interface CheckLine {
  check: CheckName;
  /** Which key, organization or group; null when there is only one. */
  about: string | null;
  ok: boolean;
  /** Runners cannot be registered while this is not well; else it is advice. */
  required: boolean;
  /** What was found: a fingerprint, a version. */
  found: string | null;
  problem: string | null;
  remedy: string | null;
}

/** Collects the lines in the order of the checks. */
export class CheckList {
  readonly lines: CheckLine[] = [];

  well(check: CheckName, about: string | null, found: string | null = null): void {
    this.lines.push({ check, about, ok: true, required: true, found, problem: null, remedy: null });
  }

  /** Nothing works without it. */
  fail(check: CheckName, about: string | null, problem: string, remedy: string): void {
    this.lines.push({ check, about, ok: false, required: true, found: null, problem, remedy });
  }

  warn(check: CheckName, about: string | null, problem: string, remedy: string): void {
    this.lines.push({ check, about, ok: false, required: false, found: null, problem, remedy });
  }

  report(app: string): CheckReport {
    const ok = this.lines.every((line) => line.ok || !line.required);
    return { app, ok, checkedAtMs: Date.now(), checks: this.lines };
  }
}
