-- rolling: safe (a new table; the database itself fills it, also for a controller that does not know of it)
--
-- What has changed, in the order in which it did, for whoever watches (apps/controller/src/feed; why so:
-- docs/decisions/0013-feed.md). Kept for a while only. What a row is about is in the other tables for good.

create table feed (
  id        bigint generated always as identity primary key,
  at        timestamptz not null default clock_timestamp(),
  -- vm, command, event, fleet
  kind      text not null,
  vm_id     text,
  pool_id   text,
  org_id    text,
  -- Of an order for many VMs: its id.
  order_id  text,
  -- Of events: all that one statement stored. They are read where they are.
  event_ids bigint[],
  -- As it was at that moment.
  body      jsonb
);

-- One row: up to which id rows have been removed. Who has seen less cannot go on without a gap.
create table feed_gone (
  one boolean primary key default true check (one),
  id  bigint not null
);

insert into feed_gone (id) values (0);

-- A function is one line as far as its semicolons go: a migration is cut where one ends a line.

create function feed_vm() returns trigger language plpgsql as $$ begin
  insert into feed (kind, vm_id, pool_id, org_id, body) values ('vm', new.vm_id, new.pool_id, new.org_id,
    jsonb_build_object('state', new.state, 'reachability', new.reachability, 'runner_state', new.runner_state,
      'miglet_state', new.miglet_state, 'runner_name', new.runner_name, 'incarnation', new.incarnation, 'life', new.life,
      'is_drained', new.drained is not null,
      'before', case when tg_op = 'UPDATE' then jsonb_build_object('state', old.state, 'reachability', old.reachability,
        'runner_state', old.runner_state, 'life', old.life) end)); return null; end $$;

create trigger feed_vm_new after insert on vms for each row execute function feed_vm();

-- A heartbeat that changes none of these costs a comparison.
create trigger feed_vm_change after update on vms for each row
  when (old.state is distinct from new.state or old.reachability is distinct from new.reachability
    or old.runner_state is distinct from new.runner_state or old.life is distinct from new.life
    or (old.drained is null) is distinct from (new.drained is null))
  execute function feed_vm();

create function feed_command() returns trigger language plpgsql as $$ begin
  insert into feed (kind, vm_id, pool_id, org_id, body)
    select 'command', new.vm_id, v.pool_id, v.org_id,
      jsonb_build_object('id', new.id, 'type', new.type, 'state', new.state, 'attempt', new.attempt,
        'created_by', new.created_by, 'message', new.message)
    from vms v where v.vm_id = new.vm_id; return null; end $$;

create trigger feed_command_new after insert on commands for each row execute function feed_command();

create trigger feed_command_change after update on commands for each row
  when (old.state is distinct from new.state) execute function feed_command();

create function feed_event() returns trigger language plpgsql as $$ begin
  insert into feed (kind, event_ids)
    select 'event', array_agg(id order by id) from fresh having count(*) > 0; return null; end $$;

create trigger feed_event after insert on events referencing new table as fresh
  for each statement execute function feed_event();

create function feed_order() returns trigger language plpgsql as $$ begin
  insert into feed (kind, order_id) values ('fleet', new.id); return null; end $$;

create trigger feed_order_new after insert on fleet_orders for each row execute function feed_order();

create trigger feed_order_change after update on fleet_orders for each row
  when (old.state is distinct from new.state) execute function feed_order();

create function feed_target() returns trigger language plpgsql as $$ begin
  insert into feed (kind, order_id) select distinct 'fleet', order_id from fresh; return null; end $$;

create trigger feed_target after update on fleet_targets referencing new table as fresh
  for each statement execute function feed_target();
