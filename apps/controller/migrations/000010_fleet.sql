-- rolling: safe (new tables only)
--
-- One order for many VMs (apps/controller/src/fleet). The row of the order is the lock of its progress: whoever sends
-- to more targets, pauses or cancels holds it.

create table fleet_orders (
  id                   text primary key,
  type                 text not null,
  parameters           jsonb not null,
  selector             jsonb not null,
  -- The organizations of its targets: who has not all of them does not see the order.
  org_ids              jsonb not null,
  max_parallel         integer not null,
  pause_after_failures integer not null,
  expires_in_ms        bigint,
  state                text not null,
  message              text,
  -- Failures that an operator has seen and resumed after; only later ones count towards the next pause.
  failures_seen        integer not null,
  created_by           text not null,
  created_at           timestamptz not null,
  finished_at          timestamptz
);

-- Chosen once, when the order is given.
create table fleet_targets (
  order_id   text not null references fleet_orders (id) on delete cascade,
  position   integer not null,
  vm_id      text not null,
  org_id     text not null,
  state      text not null,
  command_id text,
  message    text,
  primary key (order_id, position),
  unique (order_id, vm_id)
);

-- What the sweep looks for.
create index fleet_orders_running on fleet_orders (id) where state = 'running';
create index fleet_targets_sent on fleet_targets (order_id) where state = 'sent';
create index fleet_targets_pending on fleet_targets (order_id, position) where state = 'pending';
