-- rolling: safe (a new table only)
--
-- What VMs were asked to collect (apps/controller/src/diagnostics): the newest five of each VM, for seven days. A bundle
-- goes with its VM, and with its command.

create table diagnostics (
  command_id  text primary key references commands (id) on delete cascade,
  vm_id       text not null references vms (vm_id) on delete cascade,
  bytes       integer not null,
  sha256      text not null,
  content     bytea not null,
  received_at timestamptz not null default clock_timestamp()
);
-- It is compressed already.
alter table diagnostics alter column content set storage external;

create index diagnostics_of_vm on diagnostics (vm_id, received_at desc);
create index diagnostics_by_age on diagnostics (received_at);
