import { readFile } from "node:fs/promises";
import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readText } from "@mig/protocol";
import { createAskStore, type StoreAnswer } from "./ask-store.ts";
import { fileRefreshMs, readMountedSecret } from "./file-secrets.ts";
import type { FetchedSecret, SecretProvider } from "./provider.ts";
import { readBase64, readJson } from "./read-answer.ts";
import type { ReferenceOf } from "./reference.ts";
import { quote, refusalOf } from "./refuse.ts";
import { SecretValue } from "./secret-value.ts";

/** Defaults are a pod's: kubelet puts a token, which changes, and the cluster's certificate authority there. */
export interface KubernetesSettings {
  api?: string;
  tokenFile?: string;
  caFile?: string;
  timeoutMs?: number;
}

type Ref = ReferenceOf<"k8s">;
const podDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";

/** Secrets of the cluster: mounted (`?mount=`) or by its API. */
export function createKubernetesSecrets(settings: KubernetesSettings = {}): SecretProvider<Ref> {
  const {
    api = "https://kubernetes.default.svc",
    tokenFile = `${podDirectory}/token`,
    caFile = `${podDirectory}/ca.crt`,
    timeoutMs,
  } = settings;
  const who = `the Kubernetes API at ${new URL(api).origin}`;
  const store = createAskStore({
    who,
    readCa: () => readFile(caFile, "utf8").catch(() => undefined),
    ...maybe("timeoutMs", timeoutMs),
  });

  async function readToken(): Promise<SecretValue> {
    try {
      return new SecretValue((await readFile(tokenFile, "utf8")).trim());
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
      throw new MigError(
        "secret_forbidden",
        `there is no service account token at ${tokenFile} (${code}): run in a pod with automountServiceAccountToken, or mount the Secret and write ?mount=`,
      );
    }
  }

  async function read(reference: Ref, signal: AbortSignal): Promise<FetchedSecret> {
    const { namespace, name } = reference;
    // Read each time: kubelet exchanges it every hour or so.
    using token = await readToken();
    const answer = await store.ask({
      method: "GET",
      url: `${api.replace(/\/+$/, "")}/api/v1/namespaces/${namespace}/secrets/${name}`,
      headers: { authorization: `Bearer ${token.reveal()}` },
      signal,
    });
    if (answer.status !== 200) throw refusal(answer, reference, who);
    return toSecret(answer, reference, who);
  }

  return {
    refreshMs: ({ mount }) => (mount === undefined ? undefined : fileRefreshMs),
    fetch: (reference, signal) =>
      reference.mount === undefined ? read(reference, signal) : readMountedSecret(reference),
    close: () => store.close(),
  };
}

function toSecret(answer: StoreAnswer, { key, text }: Ref, who: string): FetchedSecret {
  const body = readJson(answer.body);
  answer.body.fill(0);
  const data = asObject(body?.["data"]);
  const version = readText(asObject(body?.["metadata"]) ?? {}, "resourceVersion");
  if (readText(body ?? {}, "kind") !== "Secret" || version === undefined)
    throw new MigError("secret_unavailable", `${who} answers for ${text} with something else than a Secret`);
  const encoded = data === undefined || !Object.hasOwn(data, key) ? undefined : data[key];
  const bytes = typeof encoded === "string" ? readBase64(encoded) : undefined;
  if (bytes === undefined || bytes.length === 0)
    throw new MigError(
      "secret_invalid",
      `${text} has no such key, or it is empty; there are${quote(
        Object.keys(data ?? {})
          .slice(0, 20)
          .join(", ") || "none",
      ).slice(1)}`,
    );
  return { value: new SecretValue(bytes), version };
}

function refusal(
  { status, body, retryAfterMs }: StoreAnswer,
  { namespace, name, text }: Ref,
  who: string,
): MigError {
  const said = readText(readJson(body) ?? {}, "message");
  const permission = `a Role in ${namespace} with the verb "get" on secrets, resourceNames: ["${name}"]`;
  return refusalOf({ status, who, what: text, said, retryAfterMs, permission });
}
