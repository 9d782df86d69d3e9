-- rolling: safe (new tables; nobody reads them before)
--
-- GitHub's list of runners beside our VMs and grants, as of the last look: see
-- apps/controller/src/runner/inventory.ts.

-- Who looks at an account, one replica at a time. `epoch` is the fence: what an older holder still writes is dropped.
create table inventory_turns (
  app        text not null,
  account    text not null,
  holder     text not null,
  epoch      bigint not null,
  held_until timestamptz not null,
  next_at    timestamptz not null,
  looked_at  timestamptz,
  problem    text,
  primary key (app, account)
);

-- `entry` is the runner's id at GitHub, or "vm:ID" for a VM whose runner GitHub does not know.
create table runner_inventory (
  id          bigint generated always as identity primary key,
  app         text not null,
  account     text not null,
  entry       text not null,
  epoch       bigint not null,
  runner_id   bigint,
  runner_name text not null,
  vm_id       text,
  pool_id     text,
  org_id      text,
  grant_id    text,
  verdict     text not null,
  reason      text not null,
  status      text not null,
  busy        boolean not null,
  offline_at  timestamptz,
  verdict_at  timestamptz not null,
  seen_at     timestamptz not null,
  removed_at  timestamptz,
  drained_at  timestamptz,
  unique (app, account, entry)
);

create index runner_inventory_verdict on runner_inventory (verdict, id);
-- A runner's name without the number of the try names its grant.
create index grants_stem on grants ((left(vm_id, 48) || '-' || right(id, 8)));
