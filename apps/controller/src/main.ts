import { createLog } from "@mig/kit";
import { PRODUCT_VERSION } from "@mig/protocol";
import { buildConfig } from "./config/config.ts";
import { readInvocation } from "./config/env.ts";
import { explainFailure } from "./config/explain-failure.ts";
import { showHelp, showProblems, showSettings } from "./config/show.ts";

/**
 * Signals → AbortSignal → run → exit code (0 in order, 1 failed, 2 a setting is wrong). The first SIGTERM or SIGINT
 * stops in order; the second stops at once.
 */
process.exitCode = await main();

async function main(): Promise<number> {
  const invocation = readInvocation();
  if (invocation.action === "help") return print(showHelp());
  if (invocation.action === "version") return print(`mig-controller ${PRODUCT_VERSION}\n`);
  const outcome = buildConfig(invocation);
  // What cannot be read hides what was meant: complaints about what is missing would only bury it.
  if (invocation.problems.length > 0) return complain(showProblems(invocation.problems));
  if (invocation.action === "config" && outcome.ok) {
    const { pools, defaultPool } = outcome.config;
    return print(
      showSettings(outcome.effective, { pools, default_pool: defaultPool ?? null }, invocation.json),
    );
  }
  if (!outcome.ok) return complain(showProblems(outcome.problems));

  const log = createLog(outcome.config.log);
  if (invocation.unknownVariables.length > 0) {
    const fields = { variables: invocation.unknownVariables };
    log.warn(fields, "variables that name no setting are ignored; mig-controller --help lists the names");
  }
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(1);
      log.info({ signal: name }, "stopping in order; the same signal again stops at once");
      stop.abort();
    });
  }
  // A terminal that is gone takes no more lines; the fleet does not care.
  process.stdout.on("error", () => {});
  try {
    // Loaded late: help and complaints about settings need no database in memory.
    const { runController } = await import("./controller.ts");
    return await runController(outcome.config, log, stop.signal);
  } catch (error) {
    const problem = explainFailure(error, outcome.config);
    if (outcome.config.log.format === "json") log.error({ problem }, "the controller failed");
    else process.stderr.write(`mig-controller: ${problem}\n`);
    log.debug({ error }, "the controller failed here");
    return 1;
  }
}

function complain(text: string): number {
  process.stderr.write(text);
  return 2;
}

function print(text: string): number {
  process.stdout.on("error", () => {});
  process.stdout.write(text);
  return 0;
}
