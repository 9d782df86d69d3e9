import type { StoreServer, TlsFiles } from "./store-server.ts";

export interface VaultOptions {
  readonly tls?: TlsFiles;
  /** Login of the Kubernetes method: which service account token may have which role. */
  readonly roles?: Readonly<Record<string, VaultRole>>;
  /** Where the methods and engines are mounted. */
  readonly kubernetesMount?: string;
  readonly kvMount?: string;
  readonly transitMount?: string;
}

export interface VaultRole {
  readonly jwt: string;
  readonly ttlS: number;
  readonly maxTtlS: number;
  readonly isRenewable?: boolean;
}

export interface Vault extends StoreServer {
  /** A token; without `ttlS` one that never ends. */
  giveToken(options?: { ttlS?: number; maxTtlS?: number; isRenewable?: boolean }): string;
  revoke(token: string): void;
  /** Tokens that live. */
  tokens(): string[];
  /** Seconds that a token has left; 0 when it is dead, Infinity when it never ends. */
  leftS(token: string): number;
  /** The service account token that a role takes from now on. */
  setJwt(role: string, jwt: string): void;
  /** A new version, and its number. */
  put(path: string, fields: Readonly<Record<string, unknown>>, namespace?: string): number;
  /** Versions are deleted (and can be undeleted) or destroyed. */
  remove(path: string, version: number, kind?: "deleted" | "destroyed"): void;
  /** No policy of anybody's token allows this path below /v1/. */
  deny(path: string, isDenied?: boolean): void;
  seal(): void;
  unseal(): void;
  /** The next so many requests exceed a quota. */
  limit(times: number, retryAfterS: number): void;
  /** A new version of a signing key (PEM, PKCS#8 or PKCS#1), and its number. */
  importKey(name: string, pem: string): number;
  /** Time passes, in Vault only. */
  advance(ms: number): void;
}

export interface TokenEntry {
  expiresMs: number | undefined;
  maxMs: number | undefined;
  ttlS: number;
  isRenewable: boolean;
}

export interface KvVersion {
  fields: Readonly<Record<string, unknown>>;
  state: "there" | "deleted" | "destroyed";
}
