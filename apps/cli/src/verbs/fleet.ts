import { randomUUID } from "node:crypto";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { type Asked, apiVerb, type Option } from "../options.ts";
import { inPath, pagesOf, pathOf } from "../pages.ts";
import { ageOf, renderTable } from "../table.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";
import { countsOf, endOf, follow } from "./fleet-follow.ts";
import { listVerb, plain, sayJson, tell } from "./list-verb.ts";
import { endingOptions, readEnding, shutdownOptions } from "./order-options.ts";

const which: Record<string, Option> = {
  pool: { takes: "ID", help: "VMs of this pool" },
  org: { takes: "ID", help: "of this organization" },
  state: { takes: "STATES", help: "in one of these states, as in idle,running" },
  label: { takes: "LABEL", help: "whose pool has this label" },
  version: { takes: "VERSION", help: "whose agent is of this version" },
  vms: { takes: "IDS", help: "only these, as in vm-1,vm-2" },
};
const how: Record<string, Option> = {
  "max-parallel": { takes: "N", help: "so many VMs at once (default 10)" },
  "pause-after": { takes: "N", help: "pause after so many failures (default 3; 0 is never)" },
  "expires-in": { takes: "TIME", help: "for each VM, from its turn, as in 1h" },
  wait: { help: "show how it goes until it ends" },
};
const exits =
  "0 done, 1 refused, not reached, or (with --wait) a VM failed or the order did not come to its end, 2 the command line is wrong";

const targetColumns = [
  plain("VM", "vm_id"),
  plain("STATE", "state"),
  plain("COMMAND", "command_id"),
  plain("WHY", "message"),
];

export const fleetVerbs: readonly Verb[] = [
  apiVerb({
    name: "fleet drain",
    about: "Lets many VMs finish their jobs and take no other, some at a time.",
    options: { ...which, ...how, ...endingOptions },
    exits,
    examples: [
      "migctl fleet drain --pool linux --max-parallel 20 --wait",
      "migctl fleet drain --label gpu --state idle",
    ],
    run: (asked) => give(asked, "drain", readEnding(asked)),
  }),
  apiVerb({
    name: "fleet shutdown",
    about: "Shuts many VMs down after their jobs, or at once.",
    options: { ...which, ...how, ...shutdownOptions, ...endingOptions },
    exits,
    examples: [
      "migctl fleet shutdown --pool linux --state idle --wait",
      "migctl fleet shutdown --vms vm-1,vm-2 --force",
    ],
    run: (asked) => give(asked, "shutdown", readEnding(asked)),
  }),
  apiVerb({
    name: "fleet command",
    words: ["TYPE"],
    about: "Any command for many VMs, some at a time.",
    options: { ...which, ...how, parameters: { takes: "JSON", help: "what the command takes" } },
    exits,
    examples: [
      `migctl fleet command set_log_level --pool linux --parameters '{"level":"debug"}'`,
      `migctl fleet command update_config --org acme --parameters '{"heartbeat_interval":"30s"}' --wait`,
    ],
    run: (asked) => give(asked, asked.words[0] ?? "", readParameters(asked.text("parameters"))),
  }),
  listVerb({
    name: "fleet ls",
    about: "The orders for many VMs, newest first.",
    path: "fleet/commands",
    listKey: "fleet_commands",
    filters: { state: { as: "state", takes: "STATE", help: "running, paused, done, cancelled" } },
    columns: [
      plain("ID", "id"),
      plain("TYPE", "type"),
      plain("STATE", "state"),
      { title: "ENDED", of: (row) => `${countsOf(row).ended}/${countsOf(row).total}` },
      { title: "FAILED", of: (row) => countsOf(row).failed },
      { title: "AGE", of: (row) => ageOf(row["created_at"]) },
    ],
    none: "No fleet order fits.",
    examples: ["migctl fleet ls --state running", "migctl fleet ls --json"],
  }),
  apiVerb({
    name: "fleet show",
    words: ["ID"],
    about: "One order: how far it is, and which VMs failed or were skipped.",
    options: {
      wait: { help: "show how it goes until it ends" },
      targets: { help: "list all its VMs, in the order of their turns" },
      state: { takes: "STATE", help: "with --targets: pending, sent, succeeded, failed, skipped" },
    },
    exits,
    examples: ["migctl fleet show 019a… --wait", "migctl fleet show 019a… --targets --state failed"],
    run: async (asked) => {
      const id = asked.words[0] ?? "";
      if (asked.has("targets")) return listTargets(asked, id);
      if (asked.text("state") !== undefined) throw new UsageError("--state goes with --targets");
      if (asked.has("wait")) return follow(asked, id);
      return tell(
        asked.io,
        asked.has("json"),
        await asked.api.call("GET", pathOf(`fleet/commands/${inPath(id)}`)),
      );
    },
  }),
  ...(["pause", "resume", "cancel"] as const).map((step) =>
    apiVerb({
      name: `fleet ${step}`,
      words: ["ID"],
      about: {
        pause: "Sends to no more VMs until it is resumed; what has begun goes on.",
        resume: "Goes on with an order that was paused; failures count anew.",
        cancel: "Ends an order: takes back what no VM has; what has begun goes on.",
      }[step],
      examples: [`migctl fleet ${step} 019a…`, `migctl fleet ${step} 019a… --json`],
      run: async ({ api, io, words, has }) =>
        tell(io, has("json"), await api.call("POST", pathOf(`fleet/commands/${inPath(words[0])}/${step}`))),
    }),
  ),
];

/** All of them, page by page. */
async function listTargets({ api, io, has, text }: Asked, id: string): Promise<number> {
  if (has("wait")) throw new UsageError("either --targets or --wait");
  const path = `fleet/commands/${inPath(id)}/targets`;
  const rows: Unknown[] = [];
  for await (const page of pagesOf(api, path, "targets", { state: text("state") }, Number.MAX_SAFE_INTEGER))
    rows.push(...page);
  if (has("json")) sayJson(io, { targets: rows });
  else io.out(renderTable(rows, targetColumns, io, "No VM of the order fits."));
  return exitCodes.done;
}

/** The key makes one order of it, should the connection break and the order be sent again. */
async function give(asked: Asked, type: string, parameters: object): Promise<number> {
  const { api, io, text, has } = asked;
  const expiresIn = text("expires-in");
  const maxParallel = readCount("max-parallel", text("max-parallel"));
  const pauseAfter = readCount("pause-after", text("pause-after"));
  const body = {
    selector: readSelector(asked),
    type,
    parameters,
    ...(maxParallel === undefined ? {} : { max_parallel: maxParallel }),
    ...(pauseAfter === undefined ? {} : { pause_after_failures: pauseAfter }),
    ...(expiresIn === undefined ? {} : { expires_in: expiresIn }),
  };
  const headers = { "idempotency-key": randomUUID() };
  const order = await api.call("POST", pathOf("fleet/commands"), body, headers);
  const id = readText(order, "id") ?? "";
  if (has("wait")) return follow(asked, id);
  if (has("json")) sayJson(io, order);
  else
    io.out(
      `${type} is given to ${countsOf(order).total} VMs, some at a time\nSee how it goes:\n  migctl fleet show ${id} --wait\n`,
    );
  return endOf(order) === "failed" ? exitCodes.failed : exitCodes.done;
}

function readSelector({ text }: Asked): object {
  const list = (name: string): string[] | undefined =>
    text(name)
      ?.split(",")
      .map((word) => word.trim())
      .filter((word) => word !== "");
  const said = {
    pool_id: text("pool"),
    org_id: text("org"),
    states: list("state"),
    label: text("label"),
    agent_version: text("version"),
    vm_ids: list("vms"),
  };
  const selector = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  if (Object.keys(selector).length === 0)
    throw new UsageError(
      `which VMs? Name at least one of ${Object.keys(which)
        .map((name) => `--${name}`)
        .join(", ")}`,
    );
  return selector;
}

function readCount(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new UsageError(`--${name} takes a whole number`);
  return Number(text);
}

function readParameters(text: string | undefined): Unknown {
  if (text === undefined) return {};
  try {
    const parameters = asObject(JSON.parse(text));
    if (parameters !== undefined) return parameters;
  } catch {
    // Told below, with an example.
  }
  throw new UsageError(`--parameters takes a JSON object, as in '{"level":"debug"}'`);
}
