import { createLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { assertLimits, PRODUCT_VERSION } from "@mig/protocol";
import { helpText, parseCommandLine } from "./boot/command-line.ts";
import { checkPrerequisites } from "./boot/prerequisites.ts";
import { processEnvironment, type ReadSettings, readSettings } from "./boot/settings.ts";
import type { Settings } from "./boot/settings-table.ts";
import { renderChecks, renderProblems, renderSettings } from "./boot/show.ts";
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
  }
  const read = await readSettings({ flags: line.flags, environment: processEnvironment() });
  const { settings } = read;
  if (settings === undefined) {
    complain(renderProblems(read.problems));
    return 2;
  }
  if (line.ask === "config") {
    say(renderSettings(settings, read, line.json));
    return 0;
  }
  if (line.ask === "check") {
    const checks = await checkPrerequisites(settings);
    say(renderChecks(checks, line.json));
    return checks.some(({ isRequired, problem }) => isRequired && problem !== undefined) ? 3 : 0;
  }
  return live(settings, read);
}

async function live(settings: Settings, { warnings }: ReadSettings): Promise<number> {
  const { vm_id, pool_id, org_id } = settings;
  const log = createLog({
    level: settings["logging.level"],
    format: settings["logging.format"],
    fields: { vm_id, pool_id, ...(org_id === undefined ? {} : { org_id }), component: "life" },
  });
  for (const warning of warnings) log.warn({ warning }, "A setting was not used.");
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
      log,
      onSignal(listener) {
        process.on("SIGTERM", () => listener(143));
        process.on("SIGINT", () => listener(130));
      },
    });
    log.info({ exit_code: code }, "The agent ends.");
    return code;
  } catch (error) {
    log.error({ error }, "The agent cannot go on.");
    if (!(error instanceof MigError)) return 70;
    if (error.code === "settings_invalid") return 2;
    return error.code === "state_unwritable" ? 3 : 70;
  }
}

const say = (text: string): void => void process.stdout.write(text);
const complain = (text: string): void => void process.stderr.write(text);

// A timer or a socket that somebody forgot must not keep a VM alive that has said its last word.
process.exit(await main(process.argv.slice(2)));
