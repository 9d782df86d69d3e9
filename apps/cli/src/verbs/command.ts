import { apiVerb } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { ageOf } from "../table.ts";
import { followCommand, waitExits, waitOptions } from "./follow-command.ts";
import { listVerb, plain, tell } from "./list-verb.ts";

export const commandVerbs = [
  listVerb({
    name: "command ls",
    about: "What VMs were told to do, newest first.",
    path: "commands",
    listKey: "commands",
    filters: {
      vm: { as: "vm_id", takes: "ID", help: "only for this VM" },
      org: { as: "org_id", takes: "ID", help: "only of this organization" },
      pool: { as: "pool_id", takes: "ID", help: "only of this pool" },
      type: { as: "type", takes: "TYPE", help: "drain, shutdown, …" },
      state: { as: "state", takes: "STATE", help: "pending, sent, acknowledged, succeeded, failed, …" },
    },
    columns: [
      plain("ID", "id"),
      plain("VM", "vm_id"),
      plain("TYPE", "type"),
      plain("STATE", "state"),
      { title: "AGE", of: (row) => ageOf(row["created_at"]) },
    ],
    none: "No command fits.",
    examples: ["migctl command ls --state pending", "migctl command ls --vm vm-1 --json"],
  }),
  apiVerb({
    name: "command show",
    words: ["ID"],
    about: "One command, with all its times and its result.",
    options: waitOptions,
    exits: waitExits,
    examples: ["migctl command show 019a…", "migctl command show 019a… --wait --timeout 10m"],
    run: async (asked) => {
      const { api, io, words, has } = asked;
      if (has("wait")) return followCommand(asked, words[0] ?? "");
      return tell(io, has("json"), await api.call("GET", pathOf(`commands/${inPath(words[0])}`)));
    },
  }),
  apiVerb({
    name: "command cancel",
    words: ["ID"],
    about: "Takes a command back that no VM has yet.",
    examples: ["migctl command cancel 019a…", "migctl command cancel 019a… --json"],
    run: async ({ api, io, words, has }) =>
      tell(io, has("json"), await api.call("POST", pathOf(`commands/${inPath(words[0])}/cancel`))),
  }),
];
