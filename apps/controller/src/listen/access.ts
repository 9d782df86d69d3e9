import type { ApiKeys } from "../identity/api-keys.ts";
import type { OidcOperators } from "../identity/oidc.ts";
import type { SigningKeys } from "../identity/signing-keys.ts";
import type { VmIdentities } from "../identity/vm-identities.ts";
import type { VmTokens } from "../identity/vm-token.ts";
import type { JoinDesk } from "../join/join-desk.ts";
import type { Store } from "../store/open-store.ts";

/** What listeners ask about who is who; sample mode has none of it. */
export interface Access {
  readonly store: Store;
  readonly apiKeys: ApiKeys;
  /** Undefined: no OpenID provider is set up. */
  readonly oidc?: OidcOperators;
  readonly signingKeys: SigningKeys;
  readonly vmTokens: VmTokens;
  readonly identities: VmIdentities;
  readonly join: JoinDesk;
  /** The organization of a pool; throws `not_found` or `refused` for one that is not known. */
  orgOfPool(poolId: string): string;
}
