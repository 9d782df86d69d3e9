-- rolling: safe (new tables; nobody reads them before)
--
-- Who may speak to the controller, and what they did. No table here holds a secret that opens anything by itself:
-- tokens and keys of people are SHA-256 of 32 random characters, signing keys are sealed with the master key.

-- The keys that sign VM tokens (apps/controller/src/identity/signing-keys.ts).
create table signing_keys (
  kid         text primary key,
  public_jwk  jsonb not null,
  sealed      text not null,
  created_at  timestamptz not null,
  signs_from  timestamptz not null,
  signs_until timestamptz not null,
  good_until  timestamptz not null
);

create table api_keys (
  id           text primary key,
  name         text not null,
  hash         text not null,
  role         text not null,
  orgs         jsonb,
  created_by   text not null,
  created_at   timestamptz not null,
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz
);

-- Enrolment tokens: one VM each, unless they say more.
create table join_tokens (
  id         text primary key,
  hash       text not null,
  pool_id    text not null,
  org_id     text not null,
  vm_id      text,
  cidr       text,
  uses_max   integer not null,
  uses       integer not null,
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz
);

-- Nonces are signed, not stored; what is stored is that one has been used.
create table used_nonces (
  id         text primary key,
  expires_at timestamptz not null
);

-- A VM as it proved itself: the key that it showed first is the only one that may speak for it.
create table vm_identities (
  vm_id          text primary key,
  pool_id        text not null,
  org_id         text not null,
  method         text not null,
  instance       text not null unique,
  key_thumbprint text not null,
  public_jwk     jsonb not null,
  joined_by      text not null,
  epoch          bigint not null,
  created_at     timestamptz not null,
  changed_at     timestamptz not null,
  revoked_at     timestamptz
);

create index vm_identities_changed on vm_identities (changed_at);

-- What was done, by whom: one chain an organization ("-" is the controller itself). `entry` is the text that was hashed;
-- the other columns are there to search by.
create table audit (
  org_id     text not null,
  seq        bigint not null,
  at         timestamptz not null,
  actor      text not null,
  action     text not null,
  object     text not null,
  result     text not null,
  entry      text not null,
  hash       text not null,
  primary key (org_id, seq)
);

create index audit_at on audit (at);

create table audit_heads (
  org_id text primary key,
  seq    bigint not null,
  hash   text not null
);

create function audit_stays() returns trigger language plpgsql as $$ begin raise exception 'the audit log is only added to'; end $$;

create trigger audit_stays before update or delete or truncate on audit for each statement execute function audit_stays();
