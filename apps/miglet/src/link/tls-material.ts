import { createSecureContext } from "node:tls";
import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { checkWithPin, type IdentityCheck } from "./ca-pin.ts";
import { type WatchedFile, watchFile } from "./watched-file.ts";

/** PEM texts. `ca` takes the place of the authorities that the runtime trusts by itself. */
export interface TlsMaterial {
  readonly ca?: string;
  /** Both or none: what this VM proves itself with (seed 001, "Mutual TLS option for controller communication"). */
  readonly cert?: string;
  readonly key?: string;
  /** In place of the runtime's own check of the server's name: that and controller.tls.ca_pin. */
  readonly checkServerIdentity?: IdentityCheck;
}

/** Asked before each connection, so that what is rotated on disk is used from the next connection on. */
export type TlsSource = () => Promise<TlsMaterial>;

export interface TlsFiles {
  /** controller.ca_path */
  readonly caPath?: string | undefined;
  /** controller.tls.cert_path */
  readonly certPath?: string | undefined;
  /** controller.tls.key_path */
  readonly keyPath?: string | undefined;
  /** controller.tls.ca_pin */
  readonly caPin?: string | undefined;
  readonly log?: Log;
}

/**
 * Certificates are always verified, whatever NODE_TLS_REJECT_UNAUTHORIZED says, which both runtimes would otherwise
 * obey; nothing older than TLS 1.2 is spoken (reliability-security F19). There is no setting to turn this off.
 */
export const tlsRules = { rejectUnauthorized: true, minVersion: "TLSv1.2" } as const;

/**
 * Reads the files again when they change. A change that makes no sense (half of a pair, half of a file) leaves the last
 * material in use: whoever rotates two files cannot do it in one step.
 */
export function createTlsSource({ caPath, certPath, keyPath, caPin, log }: TlsFiles): TlsSource {
  if ((certPath === undefined) !== (keyPath === undefined))
    throw new MigError(
      "settings_invalid",
      "controller.tls.cert_path and controller.tls.key_path belong together: set both or none.",
    );
  const ca = fileOf("controller.ca_path", caPath);
  const cert = fileOf("controller.tls.cert_path", certPath);
  const key = fileOf("controller.tls.key_path", keyPath);
  const pinned = caPin === undefined ? {} : { checkServerIdentity: checkWithPin(caPin) };
  let last: TlsMaterial | undefined;
  let complaint = "";
  return async () => {
    try {
      const next: TlsMaterial = {
        ...pinned,
        ...maybe("ca", await read(ca, certificate)),
        ...maybe("cert", await read(cert, certificate)),
        ...maybe("key", await read(key, privateKey)),
      };
      if (last?.ca !== next.ca || last?.cert !== next.cert || last?.key !== next.key) check(next);
      last = next;
      complaint = "";
      return last;
    } catch (error) {
      if (last === undefined) throw error;
      const message = error instanceof Error ? error.message : String(error);
      if (message !== complaint)
        log?.warn({ error }, "New TLS files cannot be used; the last ones still are.");
      complaint = message;
      return last;
    }
  };
}

interface NamedFile extends WatchedFile {
  setting: string;
  path: string;
}

function fileOf(setting: string, path: string | undefined): NamedFile | undefined {
  return path === undefined ? undefined : { setting, path, ...watchFile(path) };
}

const certificate = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----/;
const privateKey = /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/;

async function read(file: NamedFile | undefined, shape: RegExp): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const { setting, path } = file;
  const text = await file.read().catch((cause: unknown) => {
    throw new MigError("settings_invalid", `${path} cannot be read: check ${setting}.`, { cause });
  });
  // Node takes a file without any certificate for an empty list of authorities and then trusts nobody; Bun throws.
  if (!shape.test(text))
    throw new MigError(
      "settings_invalid",
      `${path} holds no PEM ${shape === privateKey ? "private key" : "certificate"}: check ${setting}.`,
    );
  return text;
}

/** Throws where the connection would, with words that say which settings are meant. */
function check(material: TlsMaterial): void {
  try {
    createSecureContext(material);
  } catch (cause) {
    const isPair = /mismatch/i.test(String(cause));
    throw new MigError(
      "settings_invalid",
      isPair
        ? "The certificate of controller.tls.cert_path does not belong to the key of controller.tls.key_path."
        : `The TLS files cannot be used (${cause instanceof Error ? cause.message : String(cause)}): check controller.ca_path, controller.tls.cert_path and controller.tls.key_path; the key must not have a passphrase.`,
      { cause },
    );
  }
}
