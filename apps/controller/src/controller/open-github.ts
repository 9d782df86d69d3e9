import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { recordAct } from "../audit/audit.ts";
import type { AppConfig } from "../config/apps.ts";
import type { Config } from "../config/config.ts";
import { readMasterKey } from "../config/master-key.ts";
import type { Rules } from "../context.ts";
import { type CheckReport, checkApp } from "../github/check-app.ts";
import { type Directory, openDirectory } from "../github/directory.ts";
import { createDirectoryDesk, type DirectoryDesk } from "../github/directory-desk.ts";
import { createFixedGrants } from "../github/fixed-grants.ts";
import type { GrantSource } from "../github/grant-source.ts";
import { aboutKey } from "../identity/signing-keys.ts";
import { aboutOf } from "../runner/grant-line.ts";
import { createDrainOrder } from "../runner/inventory-drain.ts";
import { openSecrets, type Secrets } from "../secrets/open-secrets.ts";
import { parseReference, parseSignerReference } from "../secrets/reference.ts";
import type { SealedTable } from "../secrets/rewrap.ts";
import type { Sealer } from "../secrets/sealer.ts";
import { SecretValue } from "../secrets/secret-value.ts";
import type { Registry } from "../session/registry.ts";
import type { Store } from "../store/open-store.ts";
import { createAppKeys } from "./app-keys.ts";
import { openGrantsByApp } from "./grants-by-app.ts";

export interface OpenGithubSettings {
  config: Config;
  store: Store;
  registry: Registry;
  rules: Rules;
  log: Log;
  signal: AbortSignal;
}

export interface OpenGithub {
  source: GrantSource;
  directory: Directory;
  /** Of the master key; undefined in sample mode, which keeps no secret. */
  sealer: Sealer | undefined;
  /** Undefined in sample mode, which knows no GitHub. */
  desk: DirectoryDesk | undefined;
  /** Call after `signal` has aborted. */
  close(): Promise<void>;
}

const keySettlesMs = 2_100;

/** Puts secrets, the directory, and a line for each GitHub App together. */
export async function openGithub({
  config,
  store,
  registry,
  rules,
  log,
  signal,
}: OpenGithubSettings): Promise<OpenGithub> {
  const base = config;
  const fixed = createFixedGrants(config.registrationToken.reveal());
  if (config.mode === "sample") {
    const directory = await openDirectory({ store, base, log, signal });
    return {
      source: fixed,
      directory,
      sealer: undefined,
      desk: undefined,
      close: async () => directory[Symbol.asyncDispose](),
    };
  }
  demandReferences(config);
  const onAlarm = (alarm: { code: string; message: string }): void =>
    log.error({ ...alarm }, "GitHub needs somebody's attention");
  const secrets = await openSecretStores(config, store, log, onAlarm);
  const directory = await openDirectory({ store, base, log, signal }).catch(async (error: unknown) => {
    await secrets.close();
    throw error;
  });
  const keys = createAppKeys(secrets);
  const mayLackApp = config.mode === "dev";
  const grants = openGrantsByApp({
    store,
    directory,
    keys,
    sealer: secrets.sealer,
    fixed: mayLackApp ? fixed : undefined,
    wakeVm: (vmId) => registry.wake(vmId),
    drainVm: createDrainOrder({ store, rules, log }),
    onAlarm,
    log,
    signal,
  });
  const probing = new Map<string, Promise<CheckReport>>();

  /** One probe of an App at a time; whoever asks meanwhile gets its answer. */
  function check(app: AppConfig): Promise<CheckReport> {
    const known = probing.get(app.id);
    if (known !== undefined) return known;
    const probe = probeApp(app).finally(() => probing.delete(app.id));
    probing.set(app.id, probe);
    return probe;
  }

  async function probeApp(app: AppConfig): Promise<CheckReport> {
    const { orgs, pools } = directory.shot();
    const found = await keys.find(app);
    const pace = grants.open(app.id)?.pace;
    const all = [...pools.map(({ config: pool }) => pool), ...maybeList(config.defaultPool)];
    return checkApp({
      app,
      keys: found,
      orgs: orgs.map(({ config: org }) => org).filter((org) => org.app === app.id),
      pools: all.filter((pool) => {
        const served = directory.appOf(pool);
        return "app" in served && served.app === app.id;
      }),
      groupPolicy: config.groupPolicy,
      admit: async () => pace?.admit("light"),
      signal,
    });
  }

  /** A moment later, because who asks twice within two seconds gets what is held. Other replicas look each half minute. */
  async function readAgain(reference: string): Promise<void> {
    await pause(keySettlesMs, signal);
    if (signal.aborted) return;
    await secrets
      .refresh(reference)
      .catch((error: unknown) => log.warn({ error, reference }, "a new key cannot be read yet"));
  }

  const desk = createDirectoryDesk({
    store,
    directory,
    base,
    mayLackApp,
    checkReference: checkReferenceOfApi,
    async putKey(tx, name, pem) {
      await demandDb(secrets).put(tx, name, new SecretValue(pem));
    },
    async removeKey(tx, name) {
      await secrets.db?.remove(tx, name);
    },
    record: (tx, act) => recordAct(tx, { ...act, result: "done" }),
    keyChanged: (reference) => void readAgain(reference),
    check,
  });
  return {
    source: grants.source,
    sealer: secrets.sealer,
    directory,
    desk,
    async close() {
      await grants[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
      await secrets.close();
    },
  };
}

/** Grants rest encrypted for some minutes: they move to a new master key with everything else. */
const sealedGrants: SealedTable = {
  name: "grants",
  row: ["id", "vm_id", "incarnation"],
  about: ([id = "", vmId = "", incarnation = ""]) => aboutOf({ id, vmId, incarnation }),
};

const sealedKeys: SealedTable = { name: "signing_keys", row: ["kid"], about: ([kid = ""]) => aboutKey(kid) };

async function openSecretStores(
  { secrets, dataDir }: Config,
  store: Store,
  log: Log,
  onAlarm: (alarm: { code: string; message: string }) => void,
): Promise<Secrets> {
  let { masterKey } = secrets;
  if (masterKey === undefined) {
    await readMasterKey(dataDir);
    masterKey = pathToFileURL(join(dataDir, ".mig", "master.key")).href;
  }
  const { vault, gcp, aws, kubernetes, env } = secrets;
  return openSecrets({
    log,
    onAlarm: ({ code, message }) => {
      if (code !== "secret_recovered") onAlarm({ code, message });
    },
    gcp,
    aws,
    kubernetes,
    env,
    ...maybe("vault", vault),
    db: { store, masterKey, tables: [sealedGrants, sealedKeys] },
  });
}

/** All at once, as with settings. */
function demandReferences({ apps }: Config): void {
  const problems = apps.flatMap(({ id, key, previousKey, signer }) => [
    ...problemOf(`${id}: key`, key, parseReference),
    ...problemOf(`${id}: previous_key`, previousKey, parseReference),
    ...problemOf(`${id}: signer`, signer, parseSignerReference),
  ]);
  if (problems.length > 0) throw new MigError("settings_invalid", problems.join("; "));
}

function problemOf(where: string, reference: string | undefined, parse: (text: string) => unknown): string[] {
  try {
    if (reference !== undefined) parse(reference);
    return [];
  } catch (error) {
    return [`the GitHub App ${where}: ${error instanceof MigError ? error.message : "is no reference"}`];
  }
}

/** Files and variables of the controller's machine are its owner's to name, not an operator's of the API. */
function checkReferenceOfApi(reference: string): void {
  let text: string;
  try {
    const parsed = reference.startsWith("vault-transit:")
      ? parseSignerReference(reference)
      : parseReference(reference);
    text = parsed.text;
    if (
      parsed.scheme === "file" ||
      parsed.scheme === "env" ||
      (parsed.scheme === "k8s" && parsed.mount !== undefined)
    )
      throw new MigError("settings_invalid", `${text} is of the controller's machine`);
  } catch (error) {
    const why = error instanceof MigError ? error.message : "it cannot be read";
    throw new MigError(
      "invalid_request",
      `${why}. The API takes references to gcpsm://, awssm://, vault://, k8s:// and db://, or the key itself as private_key; files and variables are named in the controller's own file`,
    );
  }
}

function demandDb(secrets: Secrets): NonNullable<Secrets["db"]> {
  if (secrets.db !== undefined) return secrets.db;
  throw new MigError("secret_unavailable", "the database keeps secrets only with a master key");
}

function maybeList<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value];
}
