import { resolve } from "node:path";
import { maybe } from "@mig/protocol";
import type { Values } from "./values.ts";

/** How machines prove to a controller what they are, beside enrolment tokens. */
export interface JoinConfig {
  readonly gcpKeysUrl: string;
  readonly awsCertificatesFile?: string;
  readonly awsStsUrl?: string;
  /** Of SPIFFE ids in client certificates. */
  readonly trustDomain: string;
}

export function readJoin(values: Values): JoinConfig {
  const certificates = values.text("join.aws_certificates_file");
  const trustDomain = values.text("join.trust_domain") ?? "mig";
  // SPIFFE ID §2.1.
  if (!/^[a-z0-9._-]{1,255}$/.test(trustDomain))
    values.refuse(
      "join.trust_domain",
      "is lower-case letters, digits, dots, dashes and underscores, as in mig.example",
    );
  return {
    trustDomain,
    gcpKeysUrl: values.url("join.gcp_keys_url"),
    ...maybe("awsCertificatesFile", certificates === undefined ? undefined : resolve(certificates)),
    ...(values.isWritten("join.aws_sts_url") ? { awsStsUrl: values.url("join.aws_sts_url") } : {}),
  };
}
