import { MigError } from "@mig/lifecycle";
import { createCachedSecret } from "./cached-secret.ts";
import type { CachedSecret, CacheRules, SecretSource, SecretStatus } from "./held-secret.ts";
import type { Providers, SecretProvider } from "./provider.ts";
import { parseReference, type Reference, type Scheme } from "./reference.ts";

/** One cached secret for each reference, however it was written and whoever asks. */
export interface Resolver {
  secret(reference: Reference | string): CachedSecret;
  /** The same for what is no secret of a provider: the public half of a signing key. */
  keep(source: SecretSource): CachedSecret;
  status(): SecretStatus[];
  close(): void;
}

/** References come from settings and from operators; more of them than this is somebody's loop. */
const secretsMax = 1_000;

export function createResolver(providers: Providers, rules: CacheRules): Resolver {
  const held = new Map<string, CachedSecret>();

  function keep(source: SecretSource): CachedSecret {
    const known = held.get(source.text);
    if (known !== undefined) return known;
    if (held.size >= secretsMax)
      throw new MigError(
        "overloaded",
        `more than ${secretsMax} references to secrets are in use; ${source.text} is refused`,
      );
    const secret = createCachedSecret(source, rules, () => {
      held.delete(source.text);
      secret.close();
    });
    held.set(source.text, secret);
    return secret;
  }

  return {
    secret(given) {
      const reference = typeof given === "string" ? parseReference(given) : given;
      const { scheme, text } = reference;
      const provider = providers[scheme] as SecretProvider | undefined;
      if (provider === undefined) throw new MigError("settings_invalid", `${text}: ${howToEnable[scheme]}`);
      const fetchPrevious = provider.fetchPrevious?.bind(provider);
      return keep({
        text,
        refreshMs: provider.refreshMs?.(reference),
        fetch: (signal) => provider.fetch(reference, signal),
        ...(fetchPrevious === undefined
          ? {}
          : {
              fetchPrevious: (current: string, signal: AbortSignal) =>
                fetchPrevious(reference, current, signal),
            }),
      });
    },
    keep,
    status: () => [...held.values()].map((secret) => secret.status()),
    close() {
      for (const secret of held.values()) secret.close();
      held.clear();
    },
  };
}

const howToEnable: Record<Scheme, string> = {
  gcpsm: "Google Secret Manager is not set up",
  awssm: "AWS Secrets Manager is not set up",
  vault: "Vault's address is not set (secrets.vault.address)",
  k8s: "Kubernetes is not set up",
  file: "files are not allowed here",
  env: "the environment is not allowed here",
  db: "the database keeps secrets only with a master key (secrets.master_key)",
};
