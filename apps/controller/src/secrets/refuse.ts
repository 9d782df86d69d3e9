import { redactText } from "@mig/kit";
import { MigError } from "@mig/lifecycle";

/**
 * A store's own words, as far as they help: short, one line, without control characters and without anything that
 * we know to be a secret. A store, or a proxy before it, may echo what it was sent.
 */
export function quote(text: string | undefined): string {
  const line = redactText((text ?? "").slice(0, 2_000))
    .replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ")
    .trim();
  if (line === "") return "";
  return `: "${line.length > 200 ? `${line.slice(0, 200)}…` : line}"`;
}

export interface Refusal {
  status: number;
  /** The store, as messages name it: `Vault at https://…`. */
  who: string;
  /** The reference, or what else was asked for. */
  what: string;
  /** The store's own message. */
  said?: string | undefined;
  retryAfterMs?: number | undefined;
  /** What to do about a 403, in the store's words: a permission's name. */
  permission?: string;
}

/** What a status means for whoever wants the secret. Stores differ in few of them; they translate those before. */
export function refusalOf({ status, who, what, said, retryAfterMs, permission }: Refusal): MigError {
  const details = retryAfterMs === undefined ? {} : { retryAfterMs };
  const words = quote(said);
  switch (true) {
    case status === 401:
      return new MigError(
        "secret_forbidden",
        `${who} does not take our credentials (401, asked for ${what})${words}`,
      );
    case status === 403:
      return new MigError(
        "secret_forbidden",
        `${who} does not let us read ${what} (403)${words}${permission === undefined ? "" : `; it takes ${permission}`}`,
      );
    case status === 404:
      return new MigError("secret_invalid", `${who} has no ${what} (404)${words}`);
    case status === 408 ||
      status === 410 ||
      status === 412 ||
      status === 425 ||
      status === 429 ||
      status >= 500:
      return new MigError("secret_unavailable", `${who} cannot answer now (${status})${words}`, details);
    default:
      return new MigError("secret_invalid", `${who} refuses the request for ${what} (${status})${words}`);
  }
}

/** Without a cause, which might carry the secret in whatever a parser or a client put into it. */
export function toMigError(
  error: unknown,
  text: string,
  code: "secret_unavailable" | "secret_invalid" = "secret_unavailable",
): MigError {
  if (error instanceof MigError) return error;
  const name = error instanceof Error ? error.name : "an error";
  return new MigError(
    code,
    `${text} ${code === "secret_invalid" ? "does not hold" : "cannot be had"}: ${name}`,
  );
}
