import { MigError } from "@mig/lifecycle";
import { asObject, readNumber, readText } from "@mig/protocol";
import type { FetchedSecret } from "./provider.ts";
import { readBase64, readJson } from "./read-answer.ts";
import type { SignerReference } from "./reference.ts";
import { SecretValue } from "./secret-value.ts";
import { demandSignature, type RemoteSigner, readSignerKey, type SignerKey } from "./signer.ts";
import type { VaultSession } from "./vault-session.ts";

/**
 * Vault's transit engine signs with a key that was imported, or made, not exportable. The newest two versions sign:
 * while a key is being changed GitHub may know only one of them.
 */
export interface VaultTransit {
  /** What is public of the key, as a value that can be kept and refreshed like a secret. */
  fetchKeys(reference: SignerReference, signal: AbortSignal): Promise<FetchedSecret>;
  /** Newest first. */
  signersOf(reference: SignerReference, keys: SecretValue): RemoteSigner[];
}

const signMs = 10_000;
const bytesMax = 64 * 1024;

export function createVaultTransit(session: VaultSession): VaultTransit {
  async function sign(
    { mount, key, namespace, text }: SignerReference,
    by: SignerKey,
    bytes: Buffer,
  ): Promise<Buffer> {
    if (bytes.length > bytesMax)
      throw new MigError("secret_invalid", `nothing longer than ${bytesMax} bytes is signed`);
    const answer = await session.ask({
      method: "POST",
      path: `${escapePath(mount)}/sign/${encodeURIComponent(key)}/sha2-256`,
      body: {
        input: bytes.toString("base64"),
        signature_algorithm: "pkcs1v15",
        key_version: Number(by.version),
      },
      namespace,
      what: text,
      signal: AbortSignal.timeout(signMs),
    });
    if (answer.status !== 200)
      throw session.refusal(answer, text, `the capability "update" on ${mount}/sign/${key}`);
    const given = readText(asObject(answer.body["data"]) ?? {}, "signature") ?? "";
    const [, version, encoded = ""] = /^vault:v(\d+):(.+)$/.exec(given) ?? [];
    const signature = readBase64(encoded);
    if (signature === undefined || version !== by.version)
      throw new MigError(
        "secret_unavailable",
        `${session.who} answers for ${text} with something else than a signature`,
      );
    return demandSignature(by, bytes, signature, text);
  }

  return {
    async fetchKeys({ mount, key, namespace, text }, signal) {
      const answer = await session.ask({
        method: "GET",
        path: `${escapePath(mount)}/keys/${encodeURIComponent(key)}`,
        namespace,
        what: text,
        signal,
      });
      if (answer.status !== 200)
        throw session.refusal(answer, text, `the capability "read" on ${mount}/keys/${key}`);
      const data = asObject(answer.body["data"]) ?? {};
      const latest = readNumber(data, "latest_version") ?? 0;
      const oldest = Math.max(
        1,
        readNumber(data, "min_encryption_version") ?? 0,
        readNumber(data, "min_available_version") ?? 0,
      );
      const pems = asObject(data["keys"]) ?? {};
      const versions = [latest, latest - 1].filter((version) => version >= oldest).map(String);
      const found = versions.flatMap((version) => {
        const pem = readText(asObject(pems[version]) ?? {}, "public_key");
        return pem === undefined ? [] : [readSignerKey(pem, version, text) && { version, pem }];
      });
      if (found.length === 0)
        throw new MigError(
          "secret_invalid",
          `${text} has no public key; make it of type rsa-2048, rsa-3072 or rsa-4096`,
        );
      return { value: new SecretValue(JSON.stringify({ keys: found })), version: String(latest) };
    },
    signersOf(reference, keys) {
      const list = readJson(keys.reveal())?.["keys"];
      return (Array.isArray(list) ? list : []).map((item) => {
        const entry = asObject(item) ?? {};
        const by = readSignerKey(
          readText(entry, "pem") ?? "",
          readText(entry, "version") ?? "",
          reference.text,
        );
        return { ...by, sign: (_algorithm, bytes) => sign(reference, by, bytes) };
      });
    },
  };
}

const escapePath = (path: string): string => path.split("/").map(encodeURIComponent).join("/");
