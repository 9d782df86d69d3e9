import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmod, mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Log, readFileIfThere, writeFileAtomic } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readText } from "@mig/protocol";

/** The key that speaks for this VM at the controller; it never leaves the state directory. */
export interface VmKey {
  readonly privateKey: KeyObject;
  /** RFC 7517, in the order that a thumbprint wants. */
  readonly publicJwk: { readonly kty: "EC"; readonly crv: "P-256"; readonly x: string; readonly y: string };
}

/** What the controller said this VM is, the last time that it was asked. */
export interface Belonging {
  readonly poolId: string;
  readonly orgId: string;
}

export interface StoredIdentity {
  readonly key: VmKey;
  /** It was there before this process: it may have joined, and its answer have been lost. */
  readonly isOld: boolean;
  /** Undefined: as far as is known, this key has never joined. */
  readonly belonging: Belonging | undefined;
  /** A disk that is full is logged, and costs no more than a question after the next start. */
  remember(belonging: Belonging): Promise<void>;
}

/**
 * Reads the key and what it is good for, or makes a key. One of another VM is put aside: an image that was made of a
 * VM which had joined would otherwise give the same key to all its copies.
 */
export async function openStoredIdentity(directory: string, vmId: string, log: Log): Promise<StoredIdentity> {
  const keyPath = join(directory, "identity-key.pem");
  const notePath = join(directory, "identity.json");
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const note = readNote(await readFileIfThere(notePath));
    const isOurs = note === undefined || note.vmId === vmId;
    if (!isOurs) {
      log.warn({ vm_id: note.vmId }, "The key in the state directory is another VM's and is put aside.");
      await rename(keyPath, `${keyPath}.other`).catch(() => {});
    }
    const found = isOurs ? await readKey(keyPath, log) : undefined;
    const key = found ?? (await makeKey(keyPath));
    const write = (more: object): Promise<void> =>
      writeFileAtomic(notePath, `${JSON.stringify({ version: 1, vm_id: vmId, ...more })}\n`);
    // Whose it is has to be known before anybody can copy it.
    if (found === undefined || note === undefined) await write({});
    return {
      key: { privateKey: key, publicJwk: jwkOf(key) },
      isOld: found !== undefined,
      belonging: found === undefined ? undefined : note?.belonging,
      async remember({ poolId, orgId }) {
        try {
          await write({ pool_id: poolId, org_id: orgId });
        } catch (error) {
          log.warn({ error, path: notePath }, "What the controller said of this VM could not be kept.");
        }
      },
    };
  } catch (cause) {
    throw new MigError(
      "state_unwritable",
      `The VM's key cannot be kept in ${directory}: the agent must be able to write there (state_dir).`,
      { cause },
    );
  }
}

async function readKey(path: string, log: Log): Promise<KeyObject | undefined> {
  const text = await readFileIfThere(path);
  if (text === undefined) return undefined;
  // Restored from a copy, for example: whoever reads it is this VM.
  if (((await stat(path)).mode & 0o077) !== 0) {
    log.warn({ path }, "Others could read the VM's key; they cannot any more.");
    await chmod(path, 0o600);
  }
  try {
    const key = createPrivateKey(text);
    jwkOf(key);
    return key;
  } catch (error) {
    log.error({ error, path }, "The VM's key cannot be read and is put aside; there is a new one now.");
    await rename(path, `${path}.broken`);
    return undefined;
  }
}

async function makeKey(path: string): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeFileAtomic(path, privateKey.export({ type: "pkcs8", format: "pem" }).toString(), 0o600);
  return privateKey;
}

function jwkOf(key: KeyObject): VmKey["publicJwk"] {
  const { kty, crv, x, y } = createPublicKey(key).export({ format: "jwk" });
  if (kty !== "EC" || crv !== "P-256" || x === undefined || y === undefined)
    throw new Error("it is not a key on P-256");
  return { kty, crv, x, y };
}

function readNote(text: string | undefined): { vmId?: string; belonging?: Belonging } | undefined {
  if (text === undefined) return undefined;
  let from: ReturnType<typeof asObject>;
  try {
    from = asObject(JSON.parse(text));
  } catch {
    // Only ever written whole; whoever wrote this was not the agent.
  }
  if (from === undefined) return undefined;
  const [poolId, orgId] = [readText(from, "pool_id"), readText(from, "org_id")];
  return {
    ...maybe("vmId", readText(from, "vm_id")),
    ...(poolId === undefined || orgId === undefined ? {} : { belonging: { poolId, orgId } }),
  };
}
