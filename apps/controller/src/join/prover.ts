import type { PeerCertificate } from "../identity/peer-certificate.ts";
import type { VmIdentityRow } from "../identity/vm-identities.ts";
import type { KeyProof } from "../identity/vm-token.ts";
import type { Tx } from "../store/open-store.ts";

export interface JoinRequest {
  readonly method: string;
  readonly nonce: string;
  /** A JWS by the VM's key over the nonce: see verifyKeyProof. */
  readonly keyProof: string;
  readonly vmId: string;
  /** Which of the pools that would take it; needed only where several would. */
  readonly poolId?: string;
  /** Of the method `token`. */
  readonly token?: string;
  /** Of the method `gcp`: the instance identity token. */
  readonly identityToken?: string;
  /** Of the method `aws`: the instance identity document as PKCS #7 (rsa2048), in base64. */
  readonly document?: string;
  /** Of the method `aws`: a signed GetCallerIdentity. */
  readonly callerIdentity?: { readonly url: string; readonly headers: Readonly<Record<string, string>> };
}

/** What a proof says of a machine, before anybody looks whether it is the first to say so. */
export interface Claim {
  readonly method: string;
  /** Once in the world: two VMs never have the same. */
  readonly instance: string;
  readonly poolId: string;
  readonly orgId: string;
  /** What it joins by; the same again is the same machine that asks again. */
  readonly joinedBy: string;
  /** Uses up what is good for one VM only; not called for one that asks again. */
  spend(tx: Tx): Promise<void>;
  /** The proof itself shows that the machine which had this name is gone, whatever its VM's state says. */
  replaces?(found: VmIdentityRow): boolean;
}

/** One way to prove what a machine is. */
export interface Prover {
  /**
   * Verifies what can be verified without the database, and asks others where it must. What it answers is called in
   * the transaction of the join. Both throw MigError; the organization of a refusal is told as soon as it is known.
   */
  verify(
    request: JoinRequest,
    about: {
      readonly key: KeyProof;
      readonly address: string | undefined;
      /** Of the connection that the request came by. */
      readonly certificate: PeerCertificate | undefined;
      orgIs(orgId: string): void;
    },
  ): Promise<(tx: Tx) => Promise<Claim>>;
}
