import { resolve } from "node:path";
import { maybe } from "@mig/protocol";
import type { Values } from "./values.ts";

/** How machines prove to a controller what they are, beside enrolment tokens. */
export interface JoinConfig {
  readonly gcpKeysUrl: string;
  readonly awsCertificatesFile?: string;
  readonly awsStsUrl?: string;
}

export function readJoin(values: Values): JoinConfig {
  const certificates = values.text("join.aws_certificates_file");
  return {
    gcpKeysUrl: values.url("join.gcp_keys_url"),
    ...maybe("awsCertificatesFile", certificates === undefined ? undefined : resolve(certificates)),
    ...(values.isWritten("join.aws_sts_url") ? { awsStsUrl: values.url("join.aws_sts_url") } : {}),
  };
}
