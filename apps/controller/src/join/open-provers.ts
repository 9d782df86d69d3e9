import { readFile } from "node:fs/promises";
import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { JoinConfig } from "../config/join.ts";
import type { PoolConfig } from "../config/pools.ts";
import { readRegionCertificates } from "./aws-document.ts";
import { createAwsProver } from "./aws-prover.ts";
import { createGcpProver } from "./gcp-prover.ts";
import { createMtlsProver } from "./mtls-prover.ts";
import type { Prover } from "./prover.ts";
import { tokenProver } from "./token-prover.ts";

/** Every way to join, by its name. Throws `settings_invalid` for certificates that cannot be read. */
export async function openProvers(
  { gcpKeysUrl, awsCertificatesFile, awsStsUrl, trustDomain }: JoinConfig,
  pools: () => readonly PoolConfig[],
): Promise<ReadonlyMap<string, Prover>> {
  const own = awsCertificatesFile === undefined ? undefined : await readCertificates(awsCertificatesFile);
  const keysOf = (region: string) => own?.get(region);
  return new Map([
    ["token", tokenProver],
    ["gcp", createGcpProver({ keysUrl: gcpKeysUrl, pools })],
    ["aws", createAwsProver({ keysOf, pools, ...maybe("stsUrl", awsStsUrl) })],
    ["mtls", createMtlsProver({ trustDomain, pools })],
  ]);
}

async function readCertificates(path: string) {
  try {
    const keys = readRegionCertificates(await readFile(path, "utf8"));
    if (keys.size > 0) return keys;
  } catch (cause) {
    throw new MigError("settings_invalid", `join.aws_certificates_file ${path} cannot be read`, { cause });
  }
  throw new MigError(
    "settings_invalid",
    `join.aws_certificates_file ${path} holds no certificate after a line "# REGION"`,
  );
}
