-- rolling: safe (a new table, a column with its own default and indexes; what came before names none of them)
--
-- What operators ask for: lists that are walked page by page, and orders that may be sent twice without being carried
-- out twice (apps/controller/src/operator).

-- Lists walk down a number that never changes; heartbeats had none.
alter table heartbeats add column id bigint generated always as identity primary key;

create index events_of_vm on events (vm_id, id);
create index events_of_org on events (org_id, id);
create index commands_of_vm on commands (vm_id, id);

-- Whose key it is, a digest of what was asked, and what was answered. Kept for a day.
create table idempotency_keys (
  caller      text not null,
  key         text not null,
  fingerprint text not null,
  answer      jsonb,
  expires_at  timestamptz not null,
  primary key (caller, key)
);

create index idempotency_keys_expire on idempotency_keys (expires_at);
