import { parseArgs } from "node:util";
import { asObject, readBoolean, readText, type Unknown } from "@mig/protocol";
import { type Api, openApi } from "../api.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";
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
export const githubCheck: Verb = {
  name: "github check",
  help: `[--app ID] [--url URL] [--token-file FILE] [--json]
      Asks GitHub whether the Apps of a controller can register runners: keys, permissions, installations, runner
      groups, clock, limits. Without --app each of them is asked about.
        --app ID           one App, by its id here
        --url URL          the controller (default http://127.0.0.1:8080)
        --token-file FILE  holds the bearer token of the operators
        --json             {"ok": …, "apps": [{"app", "ok", "checked_at", "checks": [{"check", "about", "ok",
                           "required", "found", "problem", "remedy"}]}]} instead of a table
      Exit codes: 0 all well or advice only, 3 something that is required is wrong, 1 the controller cannot be asked,
      2 the command line is wrong.`,
  async run(args, io) {
    const { app, url, tokenFile, json } = readFlags(args);
    const api = await openApi({ url, tokenFile, signal: io.signal });
    const ids = app === undefined ? await listApps(api) : [app];
    const answers: Unknown[] = [];
    for (const id of ids)
      answers.push(await api.call("POST", `/api/v1/github-apps/${encodeURIComponent(id)}/check`));
    const reports = answers.map(readReport);
    const ok = reports.length > 0 && reports.every((report) => report.ok);
    io.out(json ? `${JSON.stringify({ ok, apps: answers }, null, 2)}\n` : showReports(reports));
    return ok ? exitCodes.done : exitCodes.unwell;
  },
};

function readFlags(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        app: { type: "string" },
        url: { type: "string", default: "http://127.0.0.1:8080" },
        "token-file": { type: "string" },
        json: { type: "boolean", default: false },
      },
    });
    if (values.app === "") throw new UsageError("--app takes the id of an App");
    return { app: values.app, url: values.url, tokenFile: values["token-file"], json: values.json };
  } catch (error) {
    throw error instanceof UsageError
      ? error
      : new UsageError(error instanceof Error ? error.message : String(error));
  }
}

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
