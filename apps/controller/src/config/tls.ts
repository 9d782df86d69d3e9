import { resolve } from "node:path";
import type { Mode } from "./config.ts";
import type { SettingName } from "./settings.ts";
import { readTlsMaterial, type TlsConfig, TlsProblem } from "./tls-material.ts";
import { type Address, formatAddress, isLoopback, type Values } from "./values.ts";

/** Undefined: the ports speak plaintext. The files are read here too, so that a bad one stops the start. */
export function readTls(values: Values, nowMs = Date.now()): TlsConfig | undefined {
  const certFile = readPath(values, "tls.cert_file");
  const keyFile = readPath(values, "tls.key_file");
  const clientCaFile = readPath(values, "tls.client_ca_file");
  const clientCerts =
    values.choice(
      "tls.client_certs",
      ["off", "optional", "required"],
      clientCaFile === undefined ? "off" : "optional",
    ) ?? "off";
  const minVersion = values.choice("tls.min_version", ["1.3", "1.2"]) === "1.2" ? "TLSv1.2" : "TLSv1.3";
  if (certFile === undefined || keyFile === undefined) {
    demandPair(values, certFile, keyFile);
    return undefined;
  }
  if (clientCerts !== "off" && clientCaFile === undefined) {
    values.refuse("tls.client_certs", "needs tls.client_ca_file, which says whose certificates are good");
    return undefined;
  }
  const tls: TlsConfig = {
    certFile,
    keyFile,
    clientCaFile: clientCerts === "off" ? undefined : clientCaFile,
    clientCerts,
    minVersion,
  };
  try {
    readTlsMaterial(tls, nowMs);
  } catch (error) {
    if (!(error instanceof TlsProblem)) throw error;
    values.refuse(error.setting, error.message);
  }
  return tls;
}

export interface Exposure {
  mode: Mode;
  listen: Address;
  grpcListen: Address | undefined;
  tls: TlsConfig | undefined;
  insecurePlaintext: boolean;
}

/** Bearer tokens and registration tokens do not cross a network in clear text because somebody forgot a setting. */
export function demandTls(
  values: Values,
  { mode, listen, grpcListen, tls, insecurePlaintext }: Exposure,
): void {
  const isTlsMeant = values.isWritten("tls.cert_file") || values.isWritten("tls.key_file");
  if (insecurePlaintext && isTlsMeant) {
    values.refuse("insecure_plaintext", "excludes tls.cert_file; leave out one of them");
  }
  // The other modes do not leave this machine at all; a certificate that is wrong is told by itself.
  if (mode !== "normal" || tls !== undefined || isTlsMeant || insecurePlaintext) return;
  for (const [name, address] of [
    ["listen", listen],
    ["grpc_listen", grpcListen],
  ] as const) {
    if (address === undefined || isLoopback(address.host)) continue;
    values.refuse(
      name,
      `would send tokens in clear text over ${formatAddress(address)}. Set tls.cert_file and tls.key_file, or listen ` +
        "on 127.0.0.1 with something that speaks TLS in front, or accept it with insecure_plaintext: true",
    );
  }
}

function readPath(values: Values, name: SettingName): string | undefined {
  const text = values.text(name);
  return text === undefined ? undefined : resolve(text);
}

function demandPair(values: Values, certFile: string | undefined, keyFile: string | undefined): void {
  if (certFile !== undefined)
    values.refuse("tls.key_file", "names the key of tls.cert_file; both are needed");
  if (keyFile !== undefined)
    values.refuse("tls.cert_file", "names the certificate of tls.key_file; both are needed");
  if (certFile !== undefined || keyFile !== undefined) return;
  for (const name of ["tls.client_ca_file", "tls.client_certs", "tls.min_version"] as const) {
    if (values.isWritten(name)) values.refuse(name, "means nothing without tls.cert_file and tls.key_file");
  }
}
