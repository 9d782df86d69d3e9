import { readText, type Unknown } from "@mig/protocol";
import { ApiError } from "../api.ts";
import { jsonText } from "../json-text.ts";
import { type Asked, apiVerb } from "../options.ts";
import { pagesOf, pathOf } from "../pages.ts";
import { renderTable } from "../table.ts";
import { exitCodes } from "../verb.ts";
import { listVerb, plain, sayJson } from "./list-verb.ts";

const filters = {
  org: { as: "org_id", takes: "ID", help: "only of this organization; - is the controller itself" },
  actor: { as: "actor", takes: "WHO", help: "only by this one" },
  action: { as: "action", takes: "WORD", help: "as in vm.command" },
  since: { as: "since", takes: "TIME", help: "from then on" },
  until: { as: "until", takes: "TIME", help: "before then" },
};

export const auditVerbs = [
  listVerb({
    name: "audit ls",
    about: "Who did what, newest first.",
    path: "audit",
    listKey: "entries",
    filters,
    columns: [
      { title: "AT", of: (row) => String(row["at"]).slice(0, 19) },
      plain("ACTION", "action"),
      plain("OBJECT", "object"),
      plain("RESULT", "result"),
      plain("ACTOR", "actor"),
    ],
    none: "No entry fits.",
    examples: ["migctl audit ls --action vm.command", "migctl audit ls --org acme --limit 20"],
  }),
  apiVerb({
    name: "audit verify",
    about: "Whether anything was taken out of the log, put in or changed.",
    options: { org: { takes: "ID", help: "one organization, - for the controller; else all you have" } },
    examples: ["migctl audit verify", "migctl audit verify --org acme --json"],
    exits: "0 whole, 3 a chain is broken, 1 refused or not reached, 2 the command line is wrong",
    run: verify,
  }),
  apiVerb({
    name: "audit export",
    about: "The whole log as NDJSON, newest first.",
    options: Object.fromEntries(
      Object.entries(filters).map(([name, { takes, help }]) => [name, { takes, help }]),
    ),
    examples: ["migctl audit export > audit.ndjson", "migctl audit export --since 2026-11-01T00:00:00Z"],
    async run({ api, io, text }) {
      const query = Object.fromEntries(Object.entries(filters).map(([name, { as }]) => [as, text(name)]));
      for await (const page of pagesOf(api, "audit", "entries", query, Number.POSITIVE_INFINITY))
        io.out(page.map((entry) => `${jsonText(entry)}\n`).join(""));
      return exitCodes.done;
    },
  }),
];

async function verify({ api, io, text, has }: Asked): Promise<number> {
  const org = text("org");
  const orgs = org === undefined ? ["-"] : [org];
  if (org === undefined)
    for await (const page of pagesOf(api, "orgs", "orgs", {}, Number.POSITIVE_INFINITY))
      orgs.push(...page.flatMap((row) => readText(row, "id") ?? []));
  const reports: Unknown[] = [];
  for (const id of orgs) {
    try {
      reports.push(await api.call("GET", pathOf("audit/verify", { org_id: id })));
    } catch (error) {
      // The controller's own chain is not for keys of some organizations.
      const isForeign = org === undefined && id === "-" && error instanceof ApiError && error.status === 404;
      if (!isForeign) throw error;
    }
  }
  const isWhole = reports.every((report) => report["ok"] === true);
  const columns = [
    plain("ORG", "org_id"),
    plain("ENTRIES", "entries"),
    { title: "CHAIN", of: (row: Unknown) => (row["ok"] === true ? "whole" : "BROKEN") },
    plain("PROBLEM", "problem"),
  ];
  if (has("json")) sayJson(io, { ok: isWhole, chains: reports });
  else io.out(renderTable(reports, columns, io, "There is no log that you may read."));
  return isWhole ? exitCodes.done : exitCodes.unwell;
}
