import { Type } from "typebox";
import { AnythingOrNull, Id, TextOrNull, Time, TimeOrNull } from "./shared.ts";

/** Who is who: joining, API keys, enrolment tokens, the audit log (DESIGN §7). */
const Jws = Type.String({
  minLength: 1,
  maxLength: 4_096,
  pattern: "^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$",
});
const Line = Type.String({ minLength: 1, maxLength: 128, pattern: "^[^\\u0000-\\u001f\\u007f]+$" });
const Duration = Type.String({ maxLength: 32, description: 'as in "1h"' });

export const NonceAnswer = Type.Object({
  nonce: Type.String(),
  expires_in: Type.Number({ description: "seconds" }),
});

export const JoinBody = Type.Object({
  method: Type.String({ maxLength: 32, description: "token, gcp, aws or mtls" }),
  nonce: Jws,
  key_proof: Type.String({
    ...Jws,
    description: "JWS by the VM's key: typ mig-proof+jwt, its jwk, nonce and vm_id",
  }),
  vm_id: Id,
  pool_id: Type.Optional(Id),
  token: Type.Optional(Type.String({ maxLength: 256, description: "mgj_…, of the method token" })),
  gcp: Type.Optional(
    Type.Object({ identity_token: Jws }, { description: "of the method gcp; see docs/operate/security.md" }),
  ),
  aws: Type.Optional(
    Type.Object(
      {
        document: Type.String({ maxLength: 24_000, description: "PKCS #7 (rsa2048) in base64" }),
        caller_identity: Type.Optional(
          Type.Object({
            url: Type.String({ maxLength: 200 }),
            headers: Type.Record(Type.String({ maxLength: 64 }), Type.String({ maxLength: 8_192 }), {
              maxProperties: 10,
            }),
          }),
        ),
      },
      { description: "of the method aws; see docs/operate/security.md" },
    ),
  ),
});
export const RenewBody = Type.Object({ nonce: Jws, key_proof: Jws });
export const JoinAnswer = Type.Object({
  vm_id: Type.String(),
  pool_id: Type.String(),
  org_id: Type.String(),
  access_token: Type.String(),
  token_type: Type.Literal("Bearer"),
  expires_in: Type.Number({ description: "seconds" }),
});

const apiKeyView = {
  id: Type.String(),
  name: Type.String(),
  role: Type.String(),
  orgs: Type.Union([Type.Array(Type.String()), Type.Null()]),
  created_by: Type.String(),
  created_at: Time,
  expires_at: TimeOrNull,
  last_used_at: TimeOrNull,
  revoked_at: TimeOrNull,
};
export const ApiKeyBody = Type.Object({
  name: Line,
  role: Type.Union([Type.Literal("viewer"), Type.Literal("operator"), Type.Literal("admin")]),
  orgs: Type.Optional(Type.Array(Id, { minItems: 1, maxItems: 1_000, description: "absent: all of them" })),
  expires_in: Type.Optional(Duration),
});
export const ApiKeyMade = Type.Object({
  ...apiKeyView,
  key: Type.String({ description: "shown this once" }),
});
export const ApiKeysAnswer = Type.Object({ api_keys: Type.Array(Type.Object(apiKeyView)) });
export const ApiKeyPath = Type.Object({ id: Type.String({ pattern: "^mgk_[0-9A-Za-z]{12}$" }) });

const joinTokenView = {
  id: Type.String(),
  pool_id: Type.String(),
  org_id: Type.String(),
  vm_id: TextOrNull,
  cidr: TextOrNull,
  uses_max: Type.Integer(),
  uses: Type.Integer(),
  created_by: Type.String(),
  created_at: Time,
  expires_at: Time,
  revoked_at: TimeOrNull,
};
export const JoinTokenBody = Type.Object({
  pool_id: Id,
  vm_id: Type.Optional(Id),
  cidr: Type.Optional(Type.String({ maxLength: 64, description: "the network that VMs join from" })),
  uses_max: Type.Optional(Type.Integer({ minimum: 1, description: "VMs that may join with it; default 1" })),
  expires_in: Type.Optional(Duration),
});
export const JoinTokenMade = Type.Object({
  ...joinTokenView,
  token: Type.String({ description: "shown this once" }),
});
export const JoinTokensAnswer = Type.Object({ join_tokens: Type.Array(Type.Object(joinTokenView)) });
export const JoinTokenPath = Type.Object({ id: Type.String({ pattern: "^mgj_[0-9A-Za-z]{12}$" }) });

const Word = Type.String({ minLength: 1, maxLength: 300 });
export const AuditQuery = Type.Object({
  org_id: Type.Optional(Type.Union([Id, Type.Literal("-")])),
  actor: Type.Optional(Word),
  action: Type.Optional(Word),
  object: Type.Optional(Word),
  since: Type.Optional(Type.String({ maxLength: 40 })),
  until: Type.Optional(Type.String({ maxLength: 40 })),
  limit: Type.Optional(Type.String({ pattern: "^[1-9]\\d{0,3}$" })),
  cursor: Type.Optional(Type.String({ pattern: "^[A-Za-z0-9_-]{1,512}$" })),
  format: Type.Optional(Type.Union([Type.Literal("json"), Type.Literal("ndjson")])),
});
const AuditEntry = Type.Object({
  org_id: Type.String(),
  seq: Type.Integer(),
  hash: Type.String(),
  at: Time,
  actor: Type.String(),
  action: Type.String(),
  object: Type.String(),
  result: Type.String(),
  address: Type.Optional(Type.String()),
  request_id: Type.Optional(Type.String()),
  details: Type.Optional(AnythingOrNull),
});
export const AuditAnswer = Type.Object({ entries: Type.Array(AuditEntry), next_cursor: TextOrNull });
export const AuditVerifyQuery = Type.Object({ org_id: Type.Optional(Type.Union([Id, Type.Literal("-")])) });
export const AuditVerifyAnswer = Type.Object({
  org_id: Type.String(),
  entries: Type.Integer(),
  head: Type.String(),
  ok: Type.Boolean(),
  problem: TextOrNull,
});
