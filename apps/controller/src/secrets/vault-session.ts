import type { Clock, Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { maybe, readText, readTexts, type Unknown } from "@mig/protocol";
import { createAskStore, type StoreAnswer } from "./ask-store.ts";
import { readJson } from "./read-answer.ts";
import { refusalOf } from "./refuse.ts";
import type { SecretValue } from "./secret-value.ts";
import { createVaultToken, type VaultAuth } from "./vault-token.ts";

export interface VaultSettings {
  /** `https://vault.internal:8200`. */
  address: string;
  namespace?: string;
  auth: VaultAuth;
  readCa?: () => Promise<string | undefined>;
  timeoutMs?: number;
}

export interface VaultRequest {
  method: "GET" | "POST";
  /** Below /v1/, escaped. */
  path: string;
  body?: Unknown;
  namespace?: string | undefined;
  /** What messages call it. */
  what: string;
  signal: AbortSignal;
}

/** Vault, or OpenBao, with a token that is kept alive. Both speak JSON over HTTP, which needs no client. */
export interface VaultSession {
  readonly who: string;
  ask(request: VaultRequest): Promise<VaultAnswer>;
  /** The error for an answer that is none. */
  refusal(answer: VaultAnswer, what: string, permission?: string): MigError;
  close(): Promise<void>;
}

export interface VaultAnswer {
  status: number;
  body: Unknown;
  retryAfterMs: number | undefined;
}

/** One request with this token, or with none. */
export type SendVault = (token: SecretValue | undefined, request: VaultRequest) => Promise<VaultAnswer>;

export function createVaultSession(settings: VaultSettings, clock: Clock, log: Log): VaultSession {
  const { address, namespace, auth, readCa, timeoutMs } = settings;
  const who = `Vault at ${new URL(address).origin}`;
  const store = createAskStore({
    who,
    ...maybe("readCa", readCa),
    ...maybe("timeoutMs", timeoutMs),
  });

  const send: SendVault = async (token, request) => {
    const space = request.namespace ?? namespace;
    const answer: StoreAnswer = await store.ask({
      method: request.method,
      url: `${address.replace(/\/+$/, "")}/v1/${request.path}`,
      headers: {
        // Vault's protection against requests that somebody is made to send.
        "x-vault-request": "true",
        ...(token === undefined ? {} : { "x-vault-token": token.reveal() }),
        ...(space === undefined ? {} : { "x-vault-namespace": space }),
        ...(request.body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      signal: request.signal,
    });
    const body = readJson(answer.body) ?? {};
    answer.body.fill(0);
    return { status: answer.status, body, retryAfterMs: answer.retryAfterMs };
  };

  const refusal = (
    { status, body, retryAfterMs }: VaultAnswer,
    what: string,
    permission?: string,
  ): MigError => {
    const said = readTexts(body, "errors")?.join("; ") ?? readText(body, "error");
    if (status === 503 && /sealed/i.test(said ?? ""))
      return new MigError(
        "secret_unavailable",
        `${who} is sealed; somebody has to unseal it (asked for ${what})`,
      );
    // 412: a replica has not seen yet what we read already. 472, 473: a replica that may not answer this.
    const asOther = status === 472 || status === 473 ? 503 : status;
    return refusalOf({
      status: asOther,
      who,
      what,
      said,
      retryAfterMs,
      ...maybe("permission", permission),
    });
  };

  const tokens = createVaultToken({ who, auth, send, refusal, clock, log });
  return {
    who,
    refusal,
    async ask(request) {
      const token = await tokens.get(request.signal);
      const answer = await send(token, request);
      if (answer.status !== 403) return answer;
      // 403 is "you may not" and "who are you?" in one. The second has a remedy.
      if (await tokens.isAlive(token, request.signal)) return answer;
      tokens.drop(token);
      return send(await tokens.get(request.signal), request);
    },
    async close() {
      await tokens.close();
      store.close();
    },
  };
}
