import { parseDurationMs } from "@mig/kit";
import type { Problem } from "./env.ts";
import { Fields } from "./fields.ts";

/** Which machines a pool takes without an enrolment token. An empty list allows every value; the first one never is. */
export interface JoinPolicy {
  readonly gcp?: GcpPolicy;
  readonly aws?: AwsPolicy;
  readonly mtls?: MtlsPolicy;
}

/** Exact names in client certificates, or beginnings with `*` after them. One of them must be there. */
export interface MtlsPolicy {
  /** As in "CN=vm-1, OU=runners": in the order of the certificate. */
  readonly subjects: readonly string[];
  readonly dns: readonly string[];
  readonly uris: readonly string[];
}

export interface GcpPolicy {
  /** Project ids. */
  readonly projects: readonly string[];
  readonly zones: readonly string[];
  /** E-mail addresses of the service accounts that its instances run as. */
  readonly serviceAccounts: readonly string[];
  readonly maxAgeMs: number;
}

export interface AwsPolicy {
  /** Numbers of twelve digits. */
  readonly accounts: readonly string[];
  readonly regions: readonly string[];
  /** AMIs. */
  readonly images: readonly string[];
  /** Roles of instance profiles; with them a VM must bring a signed GetCallerIdentity. */
  readonly roles: readonly string[];
  readonly maxAgeMs: number;
}

/** An instance that is older has had jobs by then, and a job can say whatever its VM can say. */
const maxAgeDefaultMs = 15 * 60_000;

export function readJoinPolicy(content: unknown, source: string, problems: Problem[]): JoinPolicy {
  const fields = new Fields(content, source, ["gcp", "aws", "mtls"], problems);
  const gcp = fields.has("gcp") ? readGcp(fields.raw("gcp"), `${source}.gcp`, problems) : undefined;
  const aws = fields.has("aws") ? readAws(fields.raw("aws"), `${source}.aws`, problems) : undefined;
  const mtls = fields.has("mtls") ? readMtls(fields.raw("mtls"), `${source}.mtls`, problems) : undefined;
  return {
    ...(gcp === undefined ? {} : { gcp }),
    ...(aws === undefined ? {} : { aws }),
    ...(mtls === undefined ? {} : { mtls }),
  };
}

function readGcp(content: unknown, source: string, problems: Problem[]): GcpPolicy {
  const fields = new Fields(content, source, ["projects", "zones", "service_accounts", "max_age"], problems);
  const list = lister(fields);
  return {
    projects: list("projects", /^[a-z][a-z0-9:.-]{4,60}$/, "project ids, as in [my-project]", true),
    zones: list("zones", /^[a-z0-9-]{3,40}$/, "zones, as in [europe-west1-b]"),
    serviceAccounts: list("service_accounts", /^[^\s@]+@[^\s@]+$/, "e-mail addresses of service accounts"),
    maxAgeMs: readMaxAge(fields),
  };
}

function readAws(content: unknown, source: string, problems: Problem[]): AwsPolicy {
  const fields = new Fields(content, source, ["accounts", "regions", "images", "roles", "max_age"], problems);
  const list = lister(fields);
  return {
    accounts: list("accounts", /^\d{12}$/, 'account numbers, in quotes, as in ["123456789012"]', true),
    regions: list("regions", /^[a-z]{2}(?:-[a-z]+)+-\d$/, "regions, as in [eu-central-1]"),
    images: list("images", /^ami-[0-9a-f]{4,20}$/, "AMIs, as in [ami-0123456789abcdef0]"),
    roles: list("roles", /^[\w+=,.@-]{1,64}$/, "names of IAM roles"),
    maxAgeMs: readMaxAge(fields),
  };
}

function readMtls(content: unknown, source: string, problems: Problem[]): MtlsPolicy {
  const fields = new Fields(content, source, ["subjects", "dns", "uris"], problems);
  const list = lister(fields);
  const policy = {
    subjects: list(
      "subjects",
      /^[^*]+\*?$/,
      'subjects, as in ["CN=vm-1, OU=runners"]; * is allowed at the end',
    ),
    // The VM's name is the first label: a beginning is all that a pattern of names may leave open.
    dns: list("dns", /^[A-Za-z0-9.-]+\*?$/, "DNS names, as in [vm-1.example.com]; * is allowed at the end"),
    uris: list(
      "uris",
      /^[a-z][a-z0-9+.-]*:\/\/[^*/]+\/[^*]*\*?$/,
      'URIs, as in ["spiffe://corp/runners/*"]; * is allowed at the end, after the host',
    ),
  };
  if (policy.subjects.length + policy.dns.length + policy.uris.length === 0)
    fields.refuse(" needs subjects, dns or uris; without any it takes nobody");
  return policy;
}

function lister(fields: Fields) {
  return (key: string, shape: RegExp, rule: string, isNeeded = false): string[] => {
    const value = fields.raw(key) ?? [];
    const items = Array.isArray(value) ? value.map(String) : [""];
    if (items.some((item) => !shape.test(item)) || (isNeeded && items.length === 0))
      fields.refuse(`.${key} is a list of ${rule}`);
    return items;
  };
}

function readMaxAge(fields: Fields): number {
  const text = fields.text("max_age");
  const maxAgeMs = text === undefined ? maxAgeDefaultMs : parseDurationMs(text);
  if (maxAgeMs !== undefined && maxAgeMs > 0) return maxAgeMs;
  fields.refuse(".max_age is a duration, as in 15m");
  return maxAgeDefaultMs;
}
