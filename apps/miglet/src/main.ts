import { createLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { assertLimits, maybe, PRODUCT_VERSION } from "@mig/protocol";
import { helpText, parseCommandLine } from "./boot/command-line.ts";
import { checkPrerequisites } from "./boot/prerequisites.ts";
import { readPatiently } from "./boot/read-patiently.ts";
import { processEnvironment, type ReadSettings, readSettings, type SettingSources } from "./boot/settings.ts";
import type { Settings } from "./boot/settings-table.ts";
import { exitCodeOf, renderCheckup, renderProblems, renderSettings } from "./boot/show.ts";
import type { BootFailure } from "./boot/tell-boot-failure.ts";
import { createRecentLines } from "./diagnostics/recent-lines.ts";
import { runMiglet } from "./miglet.ts";

/** Settings, then the life, then the exit code: boot/exit-codes.ts. Nothing else. */
async function main(argv: readonly string[]): Promise<number> {
  assertLimits();
  const line = parseCommandLine(argv);
  switch (line.ask) {
    case "help":
      say(helpText());
      return 0;
    case "version":
      say(`${PRODUCT_VERSION}\n`);
      return 0;
    case "unclear":
      complain(`${line.message} See miglet --help\n`);
      return 2;
    case "run":
    case "config":
    case "check":
    case "status":
  }
  const sources: SettingSources = {
    flags: line.flags,
    environment: processEnvironment(),
    metadata: async (access) => (await import("./boot/read-metadata.ts")).readMetadata(access),
  };
  if (line.ask === "status") return status((await readSettings(sources)).values["metrics.listen"]);
  if (line.ask === "check") return check(await readSettings(sources), line.json);
  const read = line.ask === "config" ? await readSettings(sources) : await readPatiently(sources, bootLog());
  const { settings } = read;
  if (settings === undefined) {
    complain(renderProblems(read.problems));
    if (line.ask === "run") {
      const message = renderProblems(read.problems);
      await tell(read.values, { code: "settings_invalid", message, problems: read.problems });
    }
    // A metadata service that stays silent may answer the next process.
    return read.isTransient ? 3 : 2;
  }
  if (line.ask === "run") return live(settings, read);
  for (const warning of read.warnings) complain(`${warning}\n`);
  say(renderSettings(settings, read, line.json));
  return 0;
}

/** What does not depend on a wrong setting is looked at all the same: one run tells everything that is missing. */
async function check(read: ReadSettings, asJson: boolean): Promise<number> {
  const beganAtMs = performance.now();
  const { values, problems, warnings, facts } = read;
  const checks = await checkPrerequisites(values, {
    scope: "everything",
    wrong: new Set(problems.map(({ key }) => key)),
    machine: { environment: processEnvironment(), ...maybe("facts", facts) },
  });
  const checkup = { problems, warnings, checks, facts, tookMs: performance.now() - beganAtMs };
  say(renderCheckup(checkup, asJson));
  return exitCodeOf(checkup);
}

async function status(listen: string | undefined): Promise<number> {
  if (listen === undefined) {
    complain(
      "The agent shows nothing here: set metrics.listen, for example 127.0.0.1:9464, and start it again.\n",
    );
    return 2;
  }
  const { askStatus } = await import("./local/ask-status.ts");
  try {
    say(await askStatus(listen));
    return 0;
  } catch (error) {
    complain(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

/** Imported here, because a machine that starts as it should never needs it. */
async function tell(values: Partial<Settings>, failure: BootFailure): Promise<void> {
  const { tellBootFailure } = await import("./boot/tell-boot-failure.ts");
  const problem = await tellBootFailure(values, failure);
  if (problem !== undefined) complain(`The controller was not told: ${problem}\n`);
}

const bootLog = () => createLog({ level: "info", fields: { component: "bootstrap" } });

async function live(settings: Settings, { warnings, facts }: ReadSettings): Promise<number> {
  const { vm_id, pool_id, org_id } = settings;
  const recent = createRecentLines();
  const log = createLog({
    keep: recent.keep,
    level: settings["logging.level"],
    format: settings["logging.format"],
    fields: { vm_id, ...maybe("pool_id", pool_id), ...maybe("org_id", org_id), component: "life" },
  });
  for (const warning of warnings) log.warn({ component: "bootstrap", warning }, "A setting needs a look.");
  // Whoever read the log may go away; that must not end the agent of a running job.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  process.on("uncaughtException", (error) => {
    log.error({ error }, "Something failed that nobody expected; the next process finds the runner again.");
    process.exit(70);
  });
  try {
    const code = await runMiglet({
      settings,
      environment: processEnvironment(),
      ...maybe("facts", facts),
      log,
      recent,
      onSignal(listener) {
        process.on("SIGTERM", () => listener(143));
        process.on("SIGINT", () => listener(130));
      },
    });
    log.info({ exit_code: code }, "The agent ends.");
    await log.flush(logMs);
    return code;
  } catch (error) {
    log.error({ error }, "The agent cannot go on.");
    await log.flush(logMs);
    if (!(error instanceof MigError)) return 70;
    // Not when another agent works here: it speaks for this VM, and all may be well with it.
    if (isBootFailure(error)) await tell(settings, { code: error.code, message: error.message });
    if (error.code === "settings_invalid") return 2;
    return error.code === "state_unwritable" ? 3 : 70;
  }
}

function isBootFailure({ code, cause }: MigError): boolean {
  const isTaken = cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE";
  return (code === "settings_invalid" || code === "state_unwritable") && !isTaken;
}

/** Whoever reads the log may be slow, and the last lines say why. */
const logMs = 2_000;

const say = (text: string): void => void process.stdout.write(text);
const complain = (text: string): void => void process.stderr.write(text);

// A timer or a socket that somebody forgot must not keep a VM alive that has said its last word.
process.exit(await main(process.argv.slice(2)));
