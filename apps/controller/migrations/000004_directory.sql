-- rolling: safe (new tables; nobody reads them before)
--
-- GitHub Apps, organizations and pools that operators set up over the API; those of the configuration file are not
-- here. `spec` holds what was sent, so that what it leaves out goes on following its default. Keys of Apps are
-- references to secrets, never keys: see apps/controller/src/github/directory.ts.

create table github_apps (
  id         text primary key,
  spec       jsonb not null,
  created_at timestamptz not null,
  updated_at timestamptz not null
);

create table orgs (
  id         text primary key,
  spec       jsonb not null,
  created_at timestamptz not null,
  updated_at timestamptz not null
);

create table pools (
  id         text primary key,
  spec       jsonb not null,
  created_at timestamptz not null,
  updated_at timestamptz not null
);

-- One row: whoever changes a table above holds it, and counts it up. Replicas look at the number each second.
create table directory_version (
  one     boolean primary key default true check (one),
  version bigint not null
);

insert into directory_version (version) values (1);
