-- rolling: safe (nothing exists yet)
--
-- What the controller knows. The rows of `vms` are the locks of everything: whoever changes a VM, its commands,
-- its jobs or its events holds that VM's row. Times are the database's own.

create table vms (
  vm_id           text primary key,
  pool_id         text not null,
  org_id          text not null,
  incarnation     text not null,
  life            integer not null,
  state           text not null,
  reachability    text not null,
  runner_state    text not null,
  miglet_state    text,
  current_job     jsonb,
  health          jsonb,
  agent_version   text,
  protocol_version integer not null,
  runner_name     text,
  registrations   integer not null,
  drained         jsonb,
  problem         jsonb,
  session_epoch   bigint not null,
  session_channel text,
  command_seq     bigint not null,
  last_heartbeat  timestamptz,
  last_seen       timestamptz not null,
  created_at      timestamptz not null,
  updated_at      timestamptz not null
) with (fillfactor = 70);

create index vms_pool on vms (pool_id, vm_id);
-- The watch looks at these each second; VMs that have ended pile up beside them.
create index vms_live on vms (vm_id) where state not in ('terminated', 'lost');

-- One boot of one agent install, and how far its events are stored.
create table incarnations (
  vm_id       text not null,
  incarnation text not null,
  acked_seq   bigint not null,
  lived       boolean not null,
  began_at    timestamptz not null,
  primary key (vm_id, incarnation)
);

create table events (
  id          bigint generated always as identity primary key,
  vm_id       text not null,
  pool_id     text not null,
  org_id      text not null,
  incarnation text not null,
  seq         bigint,
  event_id    text not null,
  type        text not null,
  occurred_at timestamptz not null,
  received_at timestamptz not null,
  payload     jsonb not null,
  refused     text,
  unique (vm_id, event_id)
);

create unique index events_in_order on events (vm_id, incarnation, seq) where seq is not null;
create index events_received on events (received_at);

create table commands (
  id              text primary key,
  vm_id           text not null,
  seq             bigint not null,
  type            text not null,
  parameters      jsonb not null,
  urgent          boolean not null,
  state           text not null,
  attempt         integer not null,
  incarnation     text,
  session_epoch   bigint,
  created_by      text not null,
  message         text,
  result          jsonb,
  not_before      timestamptz not null,
  created_at      timestamptz not null,
  expires_at      timestamptz,
  sent_at         timestamptz,
  acknowledged_at timestamptz,
  finished_at     timestamptz,
  unique (vm_id, seq)
);

create index commands_open on commands (vm_id, seq) where state in ('pending', 'sent', 'acknowledged');
-- One command in flight for each VM: the rule, held by the database itself.
create unique index commands_one_in_flight on commands (vm_id) where state = 'sent';

create table jobs (
  id           text primary key,
  vm_id        text not null,
  pool_id      text not null,
  org_id       text not null,
  incarnation  text not null,
  job_id       text not null,
  run_id       text not null,
  details      jsonb not null,
  result       text,
  started_at   timestamptz not null,
  completed_at timestamptz
);

-- What every unit of work loads: the predicate is that of the query.
create index jobs_unsettled on jobs (vm_id) where completed_at is null or result = 'unknown';
create index jobs_started on jobs (started_at);

-- Sampled: one a minute for each VM, and each change of state.
create table heartbeats (
  vm_id text not null,
  at    timestamptz not null,
  body  jsonb not null
);

create index heartbeats_vm on heartbeats (vm_id, at);
