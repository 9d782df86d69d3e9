import { formatDurationMs, parseDurationMs, REDACTED } from "@mig/kit";
import { isId } from "@mig/protocol";

/** How a setting is written, read and shown. `read` gets text from flags, environment and metadata, any YAML from a file. */
export interface Kind<T> {
  /** For people: what may be written. */
  readonly form: string;
  /** Undefined: that is not one. */
  read(raw: unknown): T | undefined;
  show(value: T): string;
}

const plain = <T>(form: string, read: (text: string) => T | undefined): Kind<T> => ({
  form,
  read: (raw) =>
    ["string", "number", "boolean"].includes(typeof raw) ? read(String(raw).trim()) : undefined,
  show: String,
});

export const text = plain("text", (raw) => (raw === "" || /[\0\n\r]/.test(raw) ? undefined : raw));

/** Shown nowhere. It comes from a file, a variable or metadata: the command line is for everybody to read. */
export const secret: Kind<string> = {
  ...plain("a secret of printable characters", (raw) => (/^[!-~]{1,8192}$/.test(raw) ? raw : undefined)),
  show: () => REDACTED,
};

export const sha256 = plain("64 hexadecimal digits", (raw) =>
  /^[0-9a-f]{64}$/i.test(raw) ? raw.toLowerCase() : undefined,
);

export const pin = plain("sha256: and 64 hexadecimal digits", (raw) =>
  /^sha256:[0-9a-f]{64}$/i.test(raw) ? raw.toLowerCase() : undefined,
);

export const runnerVersion = plain("a version such as 2.336.0", (raw) =>
  /^v?\d{1,4}\.\d{1,4}\.\d{1,6}$/.test(raw) ? raw.replace(/^v/, "") : undefined,
);

/** Only this machine may read what is served there. */
export const loopbackAddress = plain("127.0.0.1:port, localhost:port or [::1]:port", (raw) => {
  const port = /^(?:127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})$/.exec(raw)?.[1];
  return port === undefined || Number(port) > 65_535 ? undefined : raw;
});

export const id = plain('an id: letters, digits, ".", "_" and "-", at most 128', (raw) =>
  isId(raw) ? raw : undefined,
);

export const path = plain("a path", (raw) => (raw === "" || raw.includes("\0") ? undefined : raw));

export const url = plain("http://host:port or https://host:port", (raw) => {
  const parsed = URL.canParse(raw) ? new URL(raw) : undefined;
  const isWeb = parsed?.protocol === "http:" || parsed?.protocol === "https:";
  // A user and a password in a URL end up in logs; there is auth.token_path for that.
  return isWeb && parsed?.username === "" && parsed.search === "" ? raw.replace(/\/+$/, "") : undefined;
});

/** Several, with commas between. Credentials are in a file. */
export const natsUrl = plain("nats://host:port or tls://host:port", (raw) =>
  raw.split(",").every((one) => {
    const parsed = URL.parse(one.trim());
    return parsed !== null && /^(?:nats|tls):$/.test(parsed.protocol) && parsed.username === "";
  })
    ? raw
    : undefined,
);

export const address = plain("host:port, http://host:port or https://host:port", (raw) => {
  const match = /^(?:https?:\/\/)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?\/?$/.exec(raw);
  return match === null || Number(match[1] ?? 1) < 1 || Number(match[1] ?? 1) > 65_535
    ? undefined
    : raw.replace(/\/$/, "");
});

export const boolean: Kind<boolean> = {
  form: "true or false",
  read: (raw) =>
    /^(?:true|1)$/i.test(String(raw)) ? true : /^(?:false|0)$/i.test(String(raw)) ? false : undefined,
  show: String,
};

export function choice<const T extends string>(...words: T[]): Kind<T> {
  return plain(words.join(", "), (raw) => words.find((word) => word === raw.toLowerCase()));
}

export function wholeNumber(low: number, high: number): Kind<number> {
  return plain(`a whole number from ${low} to ${high}`, (raw) =>
    /^\d{1,9}$/.test(raw) && Number(raw) >= low && Number(raw) <= high ? Number(raw) : undefined,
  );
}

/** A bare number is refused, because its unit would be a guess. */
export function duration(lowMs: number, highMs: number): Kind<number> {
  const form = `a duration such as 15s or 1m30s, from ${formatDurationMs(lowMs)} to ${formatDurationMs(highMs)}`;
  return {
    ...plain(form, (raw) => {
      const ms = parseDurationMs(raw);
      return ms !== undefined && ms >= lowMs && ms <= highMs ? ms : undefined;
    }),
    show: formatDurationMs,
  };
}

/** A YAML list, or text with commas. */
export const list = listOf(",", "a list, or words with commas between");
/** A YAML list, or text with blanks; no shell reads it. */
export const words = listOf(" ", "a list, or words with blanks between");

function listOf(separator: string, form: string): Kind<readonly string[]> {
  return {
    form,
    read: (raw) => {
      const items: unknown[] =
        typeof raw === "string" ? raw.split(separator) : Array.isArray(raw) ? raw : [undefined];
      if (!items.every((item) => typeof item === "string" || typeof item === "number")) return undefined;
      return items.map((item) => String(item).trim()).filter((item) => item !== "");
    },
    show: (items) => items.join(separator),
  };
}
