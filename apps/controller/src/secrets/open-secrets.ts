import { readFile } from "node:fs/promises";
import { type Clock, type Log, systemClock } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { Store } from "../store/open-store.ts";
import type { SecretAlarm } from "./alarm.ts";
import { type AwsSettings, createAwsSecrets } from "./aws-secrets.ts";
import { createDbSecrets, type DbSecrets, sealedSecrets } from "./db-secrets.ts";
import { createEnvSecrets, type EnvSettings } from "./env-secrets.ts";
import { createFileSecrets } from "./file-secrets.ts";
import { createGcpSecrets, type GcpSettings } from "./gcp-secrets.ts";
import type { CacheRules, GetOptions, SecretPair, SecretStatus } from "./held-secret.ts";
import { createKubernetesSecrets, type KubernetesSettings } from "./kubernetes-secrets.ts";
import { createMasterKeys, type MasterKeys } from "./master-keys.ts";
import type { Providers, SecretProvider } from "./provider.ts";
import { parseReference, parseSignerReference } from "./reference.ts";
import { createResolver, type Resolver } from "./resolver.ts";
import type { RewrapReport, SealedTable } from "./rewrap.ts";
import { createSealer, type Sealer } from "./sealer.ts";
import type { RemoteSigner } from "./signer.ts";
import { createVaultSecrets } from "./vault-secrets.ts";
import { createVaultSession, type VaultSession } from "./vault-session.ts";
import { createVaultTransit } from "./vault-transit.ts";

/** How Vault is told who we are. The references are read like any other, so a token may be exchanged where it lies. */
export type VaultLogin =
  | { method: "token"; token: string }
  | { method: "kubernetes"; role: string; mount?: string; jwt?: string };

export interface SecretsSettings {
  log: Log;
  onAlarm?: (alarm: SecretAlarm) => void;
  gcp?: GcpSettings;
  aws?: AwsSettings;
  vault?: { address: string; namespace?: string; login: VaultLogin; caFile?: string; timeoutMs?: number };
  kubernetes?: KubernetesSettings;
  env?: EnvSettings;
  /** `masterKey` is a reference to what key-ring.ts reads. `tables`: others that hold envelopes. */
  db?: { store: Store; masterKey: string; tables?: readonly SealedTable[] };
  rules?: Partial<Omit<CacheRules, "log" | "onAlarm" | "clock" | "random">>;
  clock?: Clock;
  random?: () => number;
}

/**
 * Secrets by reference. A value that `get` gives is for now: who needs it later asks again, which costs nothing, and
 * gets the newest one that holds.
 */
export interface Secrets {
  get(reference: string, options?: GetOptions): Promise<SecretPair>;
  /** Asks the store now: after somebody was refused with what is held. */
  refresh(reference: string): Promise<SecretPair>;
  /** `onChange` is called after each change; the first reading is begun, if nobody has. */
  watch(reference: string, onChange: (pair: SecretPair) => void): () => void;
  /** Keys that sign where they lie, the newest first. */
  signers(reference: string): Promise<RemoteSigner[]>;
  /** Throws `secret_unavailable` without a master key. */
  readonly sealer: Sealer;
  /** Undefined without a master key. */
  readonly db: DbSecrets | undefined;
  rewrap(): Promise<RewrapReport>;
  status(): SecretStatus[];
  close(): Promise<void>;
}

const minuteMs = 60_000;

const defaultRules = {
  refreshMs: 5 * minuteMs,
  fetchMs: 15_000,
  refreshGapMs: 2_000,
  staleAlarmMs: 60 * minuteMs,
  staleMaxMs: 24 * 60 * minuteMs,
  previousMs: 24 * 60 * minuteMs,
};

/** Rejects when the master keys are set wrongly; when their store is only away, what needs them waits. */
export async function openSecrets(settings: SecretsSettings): Promise<Secrets> {
  const { log, onAlarm = () => {}, clock = systemClock, random = Math.random } = settings;
  const rules: CacheRules = { ...defaultRules, ...settings.rules, log, onAlarm, clock, random };
  let masterKeys: MasterKeys | undefined;
  const readMasterKeys = async (): Promise<void> => masterKeys?.read();
  const sealer = createSealer(() => void readMasterKeys().catch(() => {}));

  const vault =
    settings.vault === undefined ? undefined : openVault(settings.vault, clock, log, () => resolver);
  const db =
    settings.db === undefined ? undefined : createDbSecrets(settings.db.store, sealer, readMasterKeys);
  const providers: Providers = {
    gcpsm: createGcpSecrets(settings.gcp),
    awssm: createAwsSecrets(settings.aws),
    k8s: createKubernetesSecrets(settings.kubernetes),
    file: createFileSecrets(log),
    env: createEnvSecrets(settings.env ?? { isAllowed: false, values: {} }),
    ...(vault === undefined ? {} : { vault: createVaultSecrets(vault) }),
    ...maybe("db", db),
  };
  const resolver: Resolver = createResolver(providers, rules);
  const transit = vault === undefined ? undefined : createVaultTransit(vault);

  const secrets: Secrets = {
    // Async, so that a reference that is wrong rejects like everything else.
    get: async (reference, options) => resolver.secret(reference).get(options),
    refresh: async (reference) => resolver.secret(reference).refresh(),
    watch(reference, onChange) {
      const secret = resolver.secret(reference);
      const unwatch = secret.watch(onChange);
      secret.get().catch(() => {});
      return unwatch;
    },
    async signers(text) {
      const reference = parseSignerReference(text);
      if (transit === undefined)
        throw new MigError(
          "settings_invalid",
          `${reference.text}: Vault's address is not set (secrets.vault.address)`,
        );
      const keys = resolver.keep({
        text: reference.text,
        fetch: (signal) => transit.fetchKeys(reference, signal),
      });
      return transit.signersOf(reference, (await keys.get()).current.value);
    },
    sealer,
    db,
    async rewrap() {
      if (masterKeys === undefined)
        throw new MigError(
          "settings_invalid",
          "there is no master key (secrets.master_key), so nothing is sealed",
        );
      return masterKeys.rewrap();
    },
    status: () => resolver.status(),
    async close() {
      await masterKeys?.close();
      resolver.close();
      await vault?.close();
      for (const provider of Object.values(providers)) await (provider as SecretProvider).close?.();
      sealer.dispose();
    },
  };

  if (settings.db !== undefined) {
    const { store, masterKey, tables = [] } = settings.db;
    const reference = parseReference(masterKey);
    if (reference.scheme === "db")
      throw new MigError(
        "settings_invalid",
        "the master key cannot be in the database that it protects; use file:// or a secret store",
      );
    masterKeys = createMasterKeys({
      where: reference.text,
      secret: resolver.secret(reference),
      sealer,
      store,
      tables: [sealedSecrets, ...tables],
      log,
    });
    try {
      await masterKeys.read();
    } catch (error) {
      if (!(error instanceof MigError) || !isRetryable(error.category)) {
        await secrets.close();
        throw error;
      }
      log.error({ error }, "the master keys are not to be had yet; what needs them waits");
    }
  }
  return secrets;
}

function openVault(
  { address, namespace, login, caFile, timeoutMs }: NonNullable<SecretsSettings["vault"]>,
  clock: Clock,
  log: Log,
  resolver: () => Resolver,
): VaultSession {
  if (!URL.canParse(address) || !/^https?:$/.test(new URL(address).protocol))
    throw new MigError("settings_invalid", "Vault's address is a URL, as https://vault.internal:8200");
  const { protocol, hostname } = new URL(address);
  if (protocol === "http:" && !/^(?:localhost|127\..*|\[::1\])$/.test(hostname))
    log.warn(
      { address },
      "Vault's address is not https: its token and every secret cross the network readable",
    );
  const written =
    login.method === "token"
      ? login.token
      : (login.jwt ?? "file:///var/run/secrets/kubernetes.io/serviceaccount/token");
  const proof = parseReference(written);
  if (proof.scheme === "vault")
    throw new MigError("settings_invalid", `${proof.text}: what Vault is opened with cannot be in Vault`);
  // Asked for when Vault refuses what we had: so not what is held, but what is there now.
  const read = async () => (await resolver().secret(proof).refresh()).current.value;
  return createVaultSession(
    {
      address,
      ...maybe("namespace", namespace),
      ...maybe("timeoutMs", timeoutMs),
      ...(caFile === undefined ? {} : { readCa: () => readCaFile(caFile) }),
      auth:
        login.method === "token"
          ? { method: "token", token: read }
          : {
              method: "kubernetes",
              role: login.role,
              jwt: read,
              ...(login.mount === undefined ? {} : { mount: login.mount }),
            },
    },
    clock,
    log,
  );
}

async function readCaFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
    throw new MigError("secret_forbidden", `the certificate authority in ${path} cannot be read (${code})`);
  }
}
