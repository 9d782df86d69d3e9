import { asObject, readBoolean, readText, type Unknown } from "@mig/protocol";
import type { Api } from "../api.ts";
import { apiVerb } from "../options.ts";
import { exitCodes, UsageError } from "../verb.ts";
import { sayJson } from "../verbs/list-verb.ts";
import { showReports } from "./show-reports.ts";

/** One line of what the controller found. */
export interface Line {
  check: string;
  about: string | undefined;
  ok: boolean;
  required: boolean;
  found: string | undefined;
  problem: string | undefined;
  remedy: string | undefined;
}

export interface Report {
  app: string;
  ok: boolean;
  lines: Line[];
}

/** Whether GitHub Apps can register runners: the controller asks GitHub, so that its own way there is what is tried. */
export const githubCheck = apiVerb({
  name: "github check",
  about:
    "Asks GitHub whether the Apps of a controller can register runners: keys, permissions, installations, limits.",
  options: { app: { takes: "ID", help: "one App, by its id here; else each of them" } },
  examples: ["migctl github check", "migctl github check --app main --json"],
  exits: `0 all well or advice only, 3 something that is required is wrong, 1 the controller cannot be asked,
      2 the command line is wrong`,
  async run({ api, io, text, has }) {
    const app = text("app");
    if (app === "") throw new UsageError("--app takes the id of an App");
    const ids = app === undefined ? await listApps(api) : [app];
    const answers: Unknown[] = [];
    for (const id of ids)
      answers.push(await api.call("POST", `/api/v1/github-apps/${encodeURIComponent(id)}/check`));
    const reports = answers.map(readReport);
    const ok = reports.length > 0 && reports.every((report) => report.ok);
    if (has("json")) sayJson(io, { ok, apps: answers });
    else io.out(showReports(reports));
    return ok ? exitCodes.done : exitCodes.unwell;
  },
});

async function listApps(api: Api): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await api.call(
      "GET",
      `/api/v1/github-apps?limit=1000${cursor === undefined ? "" : `&cursor=${cursor}`}`,
    );
    const apps = Array.isArray(page["github_apps"]) ? page["github_apps"] : [];
    ids.push(...apps.flatMap((item) => readText(asObject(item) ?? {}, "id") ?? []));
    cursor = readText(page, "next_cursor");
  } while (cursor !== undefined);
  return ids;
}

function readReport(answer: Unknown): Report {
  const checks = Array.isArray(answer["checks"]) ? answer["checks"] : [];
  return {
    app: readText(answer, "app") ?? "?",
    ok: readBoolean(answer, "ok") === true,
    lines: checks.map((item) => {
      const line = asObject(item) ?? {};
      return {
        check: readText(line, "check") ?? "?",
        about: readText(line, "about"),
        ok: readBoolean(line, "ok") === true,
        required: readBoolean(line, "required") === true,
        found: readText(line, "found"),
        problem: readText(line, "problem"),
        remedy: readText(line, "remedy"),
      };
    }),
  };
}
