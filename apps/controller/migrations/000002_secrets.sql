-- rolling: safe (a new table; nobody reads it before)
--
-- Secrets of the embedded store, each version encrypted with a key of its own, and that with a master key that is never
-- here: see apps/controller/src/secrets/envelope.ts. The second word of `sealed` is the id of that master key.

create table secrets (
  name       text not null,
  version    bigint not null,
  sealed     text not null,
  created_at timestamptz not null,
  primary key (name, version)
);

create index secrets_master_key on secrets (split_part(sealed, '.', 2));
