import { apiVerb } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { ageOf } from "../table.ts";
import { exitCodes, type Verb } from "../verb.ts";
import { listVerb, plain, tell } from "./list-verb.ts";
import { vmOrderVerbs } from "./vm-orders.ts";
import { vmWatchVerb } from "./vm-watch.ts";

const filters = {
  org: { as: "org_id", takes: "ID", help: "only of this organization" },
  pool: { as: "pool_id", takes: "ID", help: "only of this pool" },
  state: { as: "state", takes: "STATE", help: "only in this state" },
};

export const vmVerbs: readonly Verb[] = [
  listVerb({
    name: "vm ls",
    about: "The VMs and what they are doing.",
    path: "vms",
    listKey: "vms",
    filters,
    columns: [
      plain("VM", "vm_id"),
      plain("POOL", "pool_id"),
      plain("STATE", "state"),
      plain("REACH", "reachability"),
      plain("RUNNER", "runner_state"),
      { title: "SEEN", of: (row) => ageOf(row["last_seen"]) },
    ],
    none: "No VM is known that fits. One appears here when its agent first speaks.",
    examples: ["migctl vm ls --pool linux", "migctl vm ls --state idle --json"],
  }),
  apiVerb({
    name: "vm show",
    words: ["VM"],
    about: "All that is known of one VM.",
    examples: ["migctl vm show vm-1", "migctl vm show vm-1 --json"],
    run: async ({ api, io, words, has }) =>
      tell(io, has("json"), await api.call("GET", pathOf(`vms/${inPath(words[0])}`))),
  }),
  ...vmOrderVerbs,
  listVerb({
    name: "vm events",
    words: ["VM"],
    wordsAs: ["vm_id"],
    about: "What a VM has told, newest first.",
    path: "events",
    listKey: "events",
    filters: {
      type: { as: "type", takes: "TYPE", help: "only of this type" },
      since: { as: "since", takes: "TIME", help: "from then on, as in 2026-11-21T08:00:00Z" },
      until: { as: "until", takes: "TIME", help: "before then" },
    },
    columns: [
      plain("RECEIVED", "received_at"),
      plain("TYPE", "type"),
      plain("SEQ", "seq"),
      plain("REFUSED", "refused"),
    ],
    none: "No event of this VM fits.",
    examples: ["migctl vm events vm-1 --type job_completed", "migctl vm events vm-1 --limit 5 --json"],
  }),
  apiVerb({
    name: "vm revoke",
    words: ["VM"],
    about: "Ends the VM's identity: its token is good for nothing from now on.",
    examples: ["migctl vm revoke vm-1", "migctl vm revoke vm-1 --json"],
    async run({ api, io, words, has }) {
      await api.call("DELETE", `/api/v1/vms/${inPath(words[0])}/identity`);
      if (has("json")) return tell(io, true, { vm_id: words[0], revoked: true });
      io.out(
        `${words[0]} is cut off. A new enrolment token is its way back:\n  migctl join-token create --pool POOL\n`,
      );
      return exitCodes.done;
    },
  }),
  vmWatchVerb,
];
