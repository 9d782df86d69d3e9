import { MigError } from "@mig/lifecycle";
import { splitReference } from "./reference-parts.ts";
import { readers, readTransit } from "./reference-readers.ts";

/**
 * Where a secret is, as an operator writes it. `text` is the one way to write it, whatever way it was written, and
 * names the secret in messages and in the cache: a reference is no secret.
 */
export type Reference =
  | { scheme: "gcpsm"; text: string; project: string; location?: string; secret: string; version: string }
  | {
      scheme: "awssm";
      text: string;
      id: string;
      region?: string;
      stage?: string;
      version?: string;
      jsonKey?: string;
    }
  | {
      scheme: "vault";
      text: string;
      mount: string;
      path: string;
      field: string;
      version?: string;
      namespace?: string;
    }
  | { scheme: "k8s"; text: string; namespace: string; name: string; key: string; mount?: string }
  | { scheme: "file"; text: string; path: string }
  | { scheme: "env"; text: string; name: string }
  | { scheme: "db"; text: string; name: string; version?: string };

/** A key that signs and never comes out. */
export interface SignerReference {
  scheme: "vault-transit";
  text: string;
  mount: string;
  key: string;
  namespace?: string;
}

export type Scheme = Reference["scheme"];
export type ReferenceOf<S extends Scheme> = Extract<Reference, { scheme: S }>;

export const examples = {
  gcpsm: "gcpsm://projects/acme-prod/secrets/github-app/versions/latest",
  awssm: "awssm://prod/github-app?region=eu-west-1#private_key",
  vault: "vault://secret/mig/github-app#private_key",
  k8s: "k8s://mig/github-app#private-key.pem",
  file: "file:///etc/mig/github-app.pem",
  env: "env://GITHUB_APP_KEY",
  db: "db://app/123456",
  "vault-transit": "vault-transit://transit/github-app",
} as const satisfies Record<Scheme | SignerReference["scheme"], string>;

export const schemes = Object.keys(examples) as (keyof typeof examples)[];

/** Throws `settings_invalid`, which says which part is wrong and shows a right one. Never quotes what has no scheme. */
export function parseReference(text: string): Reference {
  const parts = splitReference(text, examples);
  if (parts.scheme === "vault-transit")
    throw parts.wrong("scheme", "names a key that only signs; a secret that is read comes from vault://");
  return readers[parts.scheme](parts);
}

export function parseSignerReference(text: string): SignerReference {
  const parts = splitReference(text, examples);
  if (parts.scheme !== "vault-transit")
    throw new MigError(
      "settings_invalid",
      `the reference to a signing key must begin with vault-transit://, as in "${examples["vault-transit"]}"`,
    );
  return readTransit(parts);
}
