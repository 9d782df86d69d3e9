import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { stripVTControlCharacters } from "node:util";
import type { TarFile } from "@mig/kit";
import { readText, type Unknown } from "@mig/protocol";
import { ApiError } from "../api.ts";
import { type Asked, apiVerb } from "../options.ts";
import { ageOf, renderTable } from "../table.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";
import {
  collectFresh,
  listBundles,
  orderBundle,
  readTimeoutMs,
  takeBundle,
  unpackBundle,
} from "./collect.ts";
import { plain, sayJson, tell } from "./list-verb.ts";

export const vmDiagnosticsVerbs: readonly Verb[] = [
  apiVerb({
    name: "vm diagnostics",
    words: ["VM"],
    about: "Has the VM collect its logs, processes and figures, waits, and saves the bundle (tar.gz).",
    options: {
      output: { takes: "FILE", short: "o", help: "where to save it (default VM-ID.tar.gz here)" },
      reason: { takes: "TEXT", help: "written into the bundle" },
      timeout: { takes: "TIME", help: "how long to wait for it (default 2m)" },
      "no-wait": { help: "only order it; see it later with --list" },
      list: { help: "the bundles that the controller has, newest first" },
      id: { takes: "ID", help: "save this one of the list; nothing is collected" },
    },
    examples: ["migctl vm diagnostics vm-1 -o vm-1.tar.gz", "migctl vm diagnostics vm-1 --list --json"],
    run: diagnostics,
  }),
  apiVerb({
    name: "vm logs",
    words: ["VM"],
    about: "The last lines of the agent's log, collected now.",
    options: {
      runner: { help: "the runner's logs (_diag) instead" },
      tail: { takes: "N", help: "only the last so many lines" },
      last: { help: "of the newest bundle that the controller has; nothing is collected" },
      timeout: { takes: "TIME", help: "how long to wait for it (default 2m)" },
    },
    examples: ["migctl vm logs vm-1 --tail 50", "migctl vm logs vm-1 --runner --last"],
    run: logs,
  }),
];

/** Beside what is printed: a log that is piped on has nothing else in it. */
const noteOf =
  ({ has }: Asked) =>
  (line: string): void => {
    if (!has("json")) process.stderr.write(`${line}\n`);
  };

async function diagnostics(asked: Asked): Promise<number> {
  const { api, io, words, text, has } = asked;
  const [vm = ""] = words;
  const timeoutMs = readTimeoutMs(text("timeout"));
  if (has("list")) return list(asked);
  if (has("no-wait")) {
    const command = await orderBundle(api, vm, text("reason"), undefined);
    if (has("json")) return tell(io, true, command);
    io.out(`collect_diagnostics is queued for ${vm}\nSee what came: migctl vm diagnostics ${vm} --list\n`);
    return exitCodes.done;
  }
  const given = text("id");
  const command =
    given === undefined
      ? await collectFresh(asked, { reason: text("reason"), timeoutMs, say: noteOf(asked) })
      : { id: given };
  const id = readText(command, "id") ?? "";
  const bundle = await takeBundle(api, vm, id);
  const path = text("output") ?? `${vm.replaceAll(/[^\w.-]/g, "_")}-${id}.tar.gz`;
  // Logs of a job are in it: for the eyes of whoever asked.
  await writeFile(path, bundle, { mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
    throw new ApiError(`the bundle could not be saved in ${path} (${error.code}); --id ${id} takes it again`);
  });
  const files = unpackBundle(bundle).map(({ name }) => name);
  const sha256 = createHash("sha256").update(bundle).digest("hex");
  if (has("json")) sayJson(io, { command_id: id, path, bytes: bundle.length, sha256, files });
  else io.out(`${path}: ${bundle.length} bytes, ${files.length} files\nLook into it: tar -tzf ${path}\n`);
  return exitCodes.done;
}

async function list({ api, io, words: [vm], has }: Asked): Promise<number> {
  const bundles = await listBundles(api, vm);
  if (has("json")) sayJson(io, { diagnostics: bundles });
  else {
    const columns = [
      plain("ID", "command_id"),
      { title: "AGE", of: (row: Unknown) => ageOf(row["received_at"]) },
      plain("BYTES", "bytes"),
      { title: "CUT", of: (row: Unknown) => (row["truncated"] === true ? "yes" : "no") },
    ];
    io.out(
      renderTable(bundles, columns, io, `Nothing was collected. Ask for it: migctl vm diagnostics ${vm}`),
    );
  }
  return exitCodes.done;
}

async function logs(asked: Asked): Promise<number> {
  const { api, io, words, text, has } = asked;
  const [vm = ""] = words;
  const timeoutMs = readTimeoutMs(text("timeout"));
  const most = readTail(text("tail"));
  const id = has("last")
    ? readText((await listBundles(api, vm))[0] ?? {}, "command_id")
    : readText(await collectFresh(asked, { reason: "migctl vm logs", timeoutMs, say: noteOf(asked) }), "id");
  if (id === undefined)
    throw new ApiError(`the controller has no bundle of ${vm}; without --last one is collected`);
  const files = unpackBundle(await takeBundle(api, vm, id)).filter(({ name }) =>
    has("runner") ? name.startsWith("runner/_diag/") : name === "agent/log.jsonl",
  );
  const shown = files.map((file) => ({ name: file.name, lines: linesOf(file, most) }));
  if (has("json")) sayJson(io, { command_id: id, logs: shown });
  else
    for (const { name, lines } of shown) {
      if (has("runner")) io.out(`==> ${name} <==\n`);
      // What a job printed must not command the terminal of whoever reads it.
      io.out(lines.map((line) => `${visible(line)}\n`).join(""));
    }
  if (shown.length > 0) return exitCodes.done;
  throw new ApiError(
    `the bundle ${id} has no such log; its manifest says why: migctl vm diagnostics ${vm} --id ${id}`,
  );
}

function linesOf({ content }: TarFile, most: number): string[] {
  const lines = content.toString("utf8").replace(/\n$/, "").split("\n");
  return content.length === 0 ? [] : lines.slice(-most);
}

const visible = (line: string): string =>
  stripVTControlCharacters(line).replaceAll(/[^\P{Cc}\t]|[\p{Cf}\u2028\u2029]/gu, "\u{FFFD}");

function readTail(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new UsageError("--tail takes a whole number from 1");
  return Number(text);
}
