import type { Unknown } from "@mig/protocol";
import { type Asked, apiVerb } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { ageOf } from "../table.ts";
import { exitCodes, UsageError } from "../verb.ts";
import { listVerb, plain, tell } from "./list-verb.ts";

const ends = (row: Unknown): unknown => (row["revoked_at"] === null ? ageOf(row["expires_at"]) : "revoked");

export const keyVerbs = [
  listVerb({
    name: "keys ls",
    about: "The API keys of operators and their programs; never the keys themselves.",
    path: "api-keys",
    listKey: "api_keys",
    isWhole: true,
    columns: [plain("ID", "id"), plain("NAME", "name"), plain("ROLE", "role"), { title: "ENDS", of: ends }],
    none: "There is no API key.",
    examples: ["migctl keys ls", "migctl keys ls --json"],
  }),
  apiVerb({
    name: "keys create",
    words: ["NAME"],
    about: "A new API key. It is shown this once.",
    options: {
      role: { takes: "ROLE", help: "viewer (default), operator or admin" },
      orgs: { takes: "ID,ID", help: "only these organizations; else all" },
      "expires-in": { takes: "TIME", help: "as in 720h" },
    },
    examples: [
      "migctl keys create ci --role operator --orgs acme",
      "migctl keys create look --expires-in 24h",
    ],
    async run({ api, io, words, text, has }) {
      const body = {
        name: words[0],
        role: text("role") ?? "viewer",
        orgs: text("orgs")?.split(","),
        expires_in: text("expires-in"),
      };
      return tell(io, has("json"), await api.call("POST", pathOf("api-keys"), body));
    },
  }),
  apiVerb({
    name: "keys revoke",
    words: ["ID"],
    about: "Ends an API key.",
    examples: ["migctl keys revoke mgk_0123456789ab", "migctl keys revoke mgk_0123456789ab --json"],
    run: (asked) => revoke(asked, "api-keys"),
  }),
  apiVerb({
    name: "join-token create",
    about: "What a new VM joins with. It is shown this once.",
    options: {
      pool: { takes: "ID", help: "the pool it joins; must be given" },
      vm: { takes: "ID", help: "only for this VM" },
      uses: { takes: "N", help: "VMs that may join with it (default 1)" },
      cidr: { takes: "NET", help: "the network that VMs join from" },
      "expires-in": { takes: "TIME", help: "default 30m" },
    },
    examples: ["migctl join-token create --pool linux", "migctl join-token create --pool linux --uses 50"],
    async run({ api, io, text, has }) {
      if (text("pool") === undefined) throw new UsageError("join-token create needs --pool ID");
      const uses = text("uses");
      if (uses !== undefined && !/^[1-9]\d{0,5}$/.test(uses))
        throw new UsageError("--uses takes a number from 1");
      const body = {
        pool_id: text("pool"),
        vm_id: text("vm"),
        cidr: text("cidr"),
        uses_max: uses === undefined ? undefined : Number(uses),
        expires_in: text("expires-in"),
      };
      return tell(io, has("json"), await api.call("POST", pathOf("join-tokens"), body));
    },
  }),
  listVerb({
    name: "join-token ls",
    about: "The enrolment tokens; never the tokens themselves.",
    path: "join-tokens",
    listKey: "join_tokens",
    isWhole: true,
    columns: [
      plain("ID", "id"),
      plain("POOL", "pool_id"),
      { title: "USED", of: (row) => `${row["uses"]}/${row["uses_max"]}` },
      { title: "ENDS", of: ends },
    ],
    none: "There is no enrolment token.",
    examples: ["migctl join-token ls", "migctl join-token ls --json"],
  }),
  apiVerb({
    name: "join-token revoke",
    words: ["ID"],
    about: "Ends an enrolment token; VMs that have joined stay.",
    examples: [
      "migctl join-token revoke mgj_0123456789ab",
      "migctl join-token revoke mgj_0123456789ab --json",
    ],
    run: (asked) => revoke(asked, "join-tokens"),
  }),
];

async function revoke({ api, io, words, has }: Asked, list: string): Promise<number> {
  await api.call("DELETE", pathOf(`${list}/${inPath(words[0])}`));
  if (has("json")) return tell(io, true, { id: words[0], revoked: true });
  io.out(`${words[0]} is revoked\n`);
  return exitCodes.done;
}
