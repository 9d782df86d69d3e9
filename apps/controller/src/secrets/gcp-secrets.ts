import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readText } from "@mig/protocol";
import { type AskStore, createAskStore, type StoreAnswer } from "./ask-store.ts";
import { crc32c } from "./crc32c.ts";
import type { FetchedSecret, SecretProvider } from "./provider.ts";
import { readBase64, readJson } from "./read-answer.ts";
import type { ReferenceOf } from "./reference.ts";
import { quote, refusalOf } from "./refuse.ts";
import { SecretValue } from "./secret-value.ts";
import { within } from "./within.ts";

export interface GcpSettings {
  /** Instead of Google's, for all regions. */
  endpoint?: string;
  /** A key file or a workload identity configuration; default: what google-auth-library finds on this machine. */
  keyFile?: string;
  timeoutMs?: number;
}

type Ref = ReferenceOf<"gcpsm">;
const who = "Google Secret Manager";
const scope = "https://www.googleapis.com/auth/cloud-platform";

/** Secret Manager by its REST API; Google's own library (loaded at the first use) finds the access token. */
export function createGcpSecrets({ endpoint, keyFile, timeoutMs }: GcpSettings = {}): SecretProvider<Ref> {
  const store: AskStore = createAskStore({ who, ...maybe("timeoutMs", timeoutMs) });
  const tokens = createTokens(keyFile);

  async function access(reference: Ref, version: string, signal: AbortSignal): Promise<FetchedSecret> {
    const name = `${parentOf(reference)}/secrets/${reference.secret}/versions/${version}`;
    const base =
      endpoint ??
      `https://secretmanager.${reference.location === undefined ? "" : `${reference.location}.rep.`}googleapis.com`;
    const send = async (): Promise<StoreAnswer> =>
      store.ask({
        method: "GET",
        url: `${base.replace(/\/+$/, "")}/v1/${name}:access`,
        headers: { authorization: `Bearer ${(await tokens.get(signal)).reveal()}` },
        signal,
      });
    let answer = await send();
    if (answer.status === 401) {
      // Revoked before its time: once with another one.
      tokens.reset();
      answer = await send();
    }
    if (answer.status !== 200) throw refusal(answer, reference);
    return readPayload(answer, reference);
  }

  return {
    fetch: (reference, signal) => access(reference, reference.version, signal),
    async fetchPrevious(reference, current, signal) {
      // Numbers are given in order; an alias or a number that the operator wrote has no "before".
      if (reference.version !== "latest" || !/^\d+$/.test(current) || BigInt(current) < 2n) return undefined;
      try {
        return await access(reference, String(BigInt(current) - 1n), signal);
      } catch (error) {
        if (error instanceof MigError && error.code !== "secret_unavailable") return undefined;
        throw error;
      }
    },
    close() {
      store.close();
      tokens.reset();
    },
  };
}

const parentOf = ({ project, location }: Ref): string =>
  `projects/${encodeURIComponent(project)}${location === undefined ? "" : `/locations/${location}`}`;

function readPayload(answer: StoreAnswer, { text }: Ref): FetchedSecret {
  const body = readJson(answer.body);
  answer.body.fill(0);
  const payload = asObject(body?.["payload"]) ?? {};
  const data = readBase64(readText(payload, "data") ?? "");
  const version = /\/versions\/(\d+)$/.exec(readText(body ?? {}, "name") ?? "")?.[1];
  if (data === undefined || data.length === 0 || version === undefined)
    throw new MigError("secret_unavailable", `${who} answers for ${text} with something else than a payload`);
  // An int64 comes as a text in Google's JSON, and as a number from some who imitate it.
  if (String(payload["dataCrc32c"]) !== String(crc32c(data))) {
    data.fill(0);
    throw new MigError("secret_unavailable", `${text} was damaged on its way: its CRC32C is another one`);
  }
  return { value: new SecretValue(data), version };
}

function refusal({ status, body, retryAfterMs }: StoreAnswer, { text }: Ref): MigError {
  const error = asObject(readJson(body)?.["error"]) ?? {};
  const said = readText(error, "message");
  if (status === 400 && readText(error, "status") === "FAILED_PRECONDITION")
    return new MigError(
      "secret_invalid",
      `${text} is disabled or destroyed; enable a version, or add one${quote(said)}`,
    );
  return refusalOf({
    status,
    who,
    what: text,
    said,
    retryAfterMs,
    permission: "secretmanager.versions.access",
  });
}

/** Access tokens live for an hour; the library keeps one and renews it before its end. */
function createTokens(keyFile: string | undefined): {
  get(signal: AbortSignal): Promise<SecretValue>;
  reset(): void;
} {
  let auth: Promise<{ getAccessToken(): Promise<string | null | undefined> }> | undefined;
  let held: SecretValue | undefined;
  let before: SecretValue | undefined;

  const load = async (): Promise<{ getAccessToken(): Promise<string | null | undefined> }> => {
    const { GoogleAuth } = await import("google-auth-library");
    return new GoogleAuth({ scopes: [scope], ...(keyFile === undefined ? {} : { keyFilename: keyFile }) });
  };
  return {
    async get(signal) {
      auth ??= load();
      let text: string | null | undefined;
      try {
        text = await within(
          auth.then((one) => one.getAccessToken()),
          signal,
          "Google's token server",
        );
      } catch (error) {
        auth = undefined;
        if (error instanceof MigError) throw error;
        throw tokenRefusal(error);
      }
      if (text === null || text === undefined || !/^[!-~]{1,16384}$/.test(text))
        throw new MigError("secret_unavailable", "Google's token server gave no access token");
      const token = new SecretValue(text);
      if (held?.equals(token) === true) token.dispose();
      else {
        // The one before may be on its way at this moment, and come back in an answer: it stays hidden.
        before?.dispose();
        before = held;
        held = token;
      }
      return held;
    },
    reset() {
      auth = undefined;
    },
  };
}

/** The library's errors carry whole requests and answers: only what says what to do is taken out of them. */
function tokenRefusal(error: unknown): MigError {
  const status = statusOf(error);
  const said = error instanceof Error ? error.message : "";
  if (status !== undefined && status < 500 && status !== 408 && status !== 429)
    return new MigError(
      "secret_forbidden",
      `Google gives this machine no access token (${status})${quote(said)}`,
    );
  if (/could not load the default credentials|ENOENT|no such file/i.test(said))
    return new MigError(
      "secret_forbidden",
      "there are no Google credentials: run on Google Cloud with a service account, or name a file of credentials",
    );
  return new MigError("secret_unavailable", `Google's token server cannot be reached${quote(said)}`);
}

function statusOf(error: unknown): number | undefined {
  const status = asObject(error)?.["status"] ?? asObject(asObject(error)?.["response"])?.["status"];
  return typeof status === "number" ? status : undefined;
}
