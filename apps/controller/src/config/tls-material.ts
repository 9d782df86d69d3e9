import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { SettingName } from "./settings.ts";

/** Where the listeners' certificate is, and what is asked of clients. */
export interface TlsConfig {
  certFile: string;
  keyFile: string;
  /** Undefined: no client is asked for a certificate. */
  clientCaFile: string | undefined;
  clientCerts: "off" | "optional" | "required";
  minVersion: "TLSv1.3" | "TLSv1.2";
}

/** What the files held when they were read; it has been judged and may be served. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
  readonly subject: string;
  readonly expiresMs: number;
}

/** A file that cannot be served, by the setting that names it. */
export class TlsProblem extends Error {
  override readonly name = "TlsProblem";
  readonly setting: SettingName;
  constructor(setting: SettingName, rule: string) {
    super(rule);
    this.setting = setting;
  }
}

const fileBytesMax = 256 * 1024;

/** Reads and judges all files as one: a certificate without its key is worth nothing. Throws a TlsProblem. */
export function readTlsMaterial(files: TlsConfig, nowMs: number): TlsMaterial {
  const cert = readText("tls.cert_file", files.certFile);
  const key = readText("tls.key_file", files.keyFile);
  const ca =
    files.clientCaFile === undefined ? undefined : readText("tls.client_ca_file", files.clientCaFile);
  // Of the rest of a chain clients choose what they need; an old cross-signature in it harms nobody.
  const leaf = readCertificates("tls.cert_file", cert)[0] as X509Certificate;
  const expiresMs = Date.parse(leaf.validTo);
  if (expiresMs <= nowMs) {
    throw new TlsProblem("tls.cert_file", `expired on ${new Date(expiresMs).toISOString()}; renew it`);
  }
  if (Date.parse(leaf.validFrom) > nowMs) {
    const from = new Date(leaf.validFrom).toISOString();
    throw new TlsProblem("tls.cert_file", `is valid from ${from} on only; look at this machine's clock`);
  }
  if (!leaf.checkPrivateKey(readKey(key))) {
    throw new TlsProblem("tls.key_file", "does not fit the first certificate in tls.cert_file");
  }
  if (ca !== undefined) readCertificates("tls.client_ca_file", ca);
  try {
    // The last word has the library that will serve it: it also refuses keys that are too short.
    createSecureContext({ cert, key, ...(ca === undefined ? {} : { ca }), minVersion: files.minVersion });
  } catch (error) {
    throw new TlsProblem("tls.cert_file", `cannot be served: ${messageOf(error)}`);
  }
  return { cert, key, ca, subject: leaf.subject.replaceAll("\n", ", "), expiresMs };
}

function readText(setting: SettingName, path: string): string {
  try {
    const about = statSync(path);
    if (!about.isFile() || about.size > fileBytesMax) {
      throw new TlsProblem(setting, "must be a PEM file of at most 256 KiB");
    }
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof TlsProblem) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
    throw new TlsProblem(setting, `cannot be read: ${code}`);
  }
}

function readCertificates(setting: SettingName, text: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new TlsProblem(setting, "must hold certificates in PEM form; it holds none");
  return blocks.map((block, i) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw new TlsProblem(setting, `holds a certificate that cannot be read (number ${i + 1})`);
    }
  });
}

function readKey(text: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch {
    // What OpenSSL says here may quote the file.
    const why = /ENCRYPTED/.test(text)
      ? "holds an encrypted key; nobody is there to type its passphrase: write it without one, readable by this user only"
      : "must hold a private key in PEM form";
    throw new TlsProblem("tls.key_file", why);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
