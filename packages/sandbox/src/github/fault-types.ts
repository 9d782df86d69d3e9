/** How the bytes of an answer come, when not all at once and whole. The request has taken effect by then. */
export type Delivery =
  /** The head of the answer, then silence. */
  | "stall"
  /** A byte each second. */
  | "trickle"
  /** Half of the body, then a reset connection (RST). */
  | "reset"
  /** Half of the body as if that were all: broken JSON. */
  | "truncated"
  /** 100 MB of JSON. */
  | "huge"
  /** 100 MB of JSON in some 100 kB of gzip. */
  | "bomb";

/** What happens to the next `times` matching requests. */
export interface Fault {
  readonly method?: string;
  /** Regular expression tested against the path without `/api/v3`. */
  readonly path: string;
  /** Default 1. `Infinity`, or null over HTTP, until `clearFaults()`. */
  readonly times?: number | null;
  readonly delayMs?: number;
  /** Answers with this, and `headers` and `body`, instead of what the request deserves; it has no effect then. */
  readonly status?: number;
  /**
   * Without a `status` they are added to the real answer. Names in braces are filled in: `{date+2}` an HTTP date in two seconds, `{epoch+2}` the same as a number, by
   * GitHub's clock; `{target}` the request's path with its query; `{port}` the stand-in's own.
   */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Changes to the real answer, as a JSON merge patch (RFC 7396): null takes a field away. */
  readonly merge?: Readonly<Record<string, unknown>>;
  readonly deliver?: Delivery;
  /** Never answer. */
  readonly hang?: boolean;
  /** Cut the connection before or after the request took effect (`after` = the lost response). */
  readonly drop?: "before" | "after";
  /** From now on GitHub's clock is off by this, until `clearFaults()`. */
  readonly clockSkewMs?: number;
  /**
   * Nobody gets through to the stand-in, from now on and for `forMs` (default 1,000) or until `clearFaults()`:
   * connections are refused, or never established. `method`, `path` and `times` say nothing here.
   */
  readonly connect?: "refused" | "hang";
  readonly forMs?: number;
}
