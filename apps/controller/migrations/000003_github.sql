-- rolling: safe (new tables; nobody reads them before)
--
-- What replicas share about GitHub: where Apps are installed, how fast they may call, and the grants.

create table github_installations (
  app             text not null,
  account         text not null,
  installation_id bigint not null,
  found_at        timestamptz not null,
  primary key (app, account)
);

-- One row for each App: the next free moment for a call, and until when GitHub wants to be left alone.
create table github_pace (
  key           text primary key,
  per_minute    double precision not null,
  next_at       timestamptz not null,
  blocked_until timestamptz not null,
  clean_since   timestamptz not null
);

-- Permission to register one runner, from the wish to the runner: see apps/controller/src/runner/grant-line.ts.
create table grants (
  id            text primary key,
  vm_id         text not null,
  incarnation   text not null,
  request_id    text not null,
  pool_id       text not null,
  org_id        text not null,
  app           text not null,
  wish          jsonb not null,
  state         text not null,
  tries         integer not null,
  runner_name   text,
  runner_id     bigint,
  sealed        text,
  problem       jsonb,
  wanted_at     timestamptz not null,
  not_before    timestamptz not null,
  claimed_until timestamptz,
  made_at       timestamptz,
  expires_at    timestamptz,
  settled_at    timestamptz,
  alerted_at    timestamptz,
  removed_at    timestamptz,
  unique (vm_id, incarnation, request_id)
);

-- One live grant for each incarnation: the rule, held by the database itself.
create unique index grants_one_live on grants (vm_id, incarnation) where state in ('wanted', 'making', 'made');
create index grants_line on grants (app, pool_id, wanted_at, id) where state in ('wanted', 'making');
create index grants_unused on grants (made_at) where state = 'made';
create index grants_left_over on grants (app, not_before) where state in ('void', 'failed') and runner_name is not null and removed_at is null;

-- Which pool had its turn when: the line is fair by pool, not by who came first.
create table grant_turns (
  app       text not null,
  pool_id   text not null,
  served_at timestamptz not null,
  primary key (app, pool_id)
);
