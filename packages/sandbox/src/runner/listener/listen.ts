/** `Runner.Listener run`: JIT config, settings and work folder, then sessions until one has ended for good. */
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { recordPerf } from "../diag-log.ts";
import { readClientId, readSettings, writeJitConfig } from "../runner-files.ts";
import { scenarios } from "../scenarios.ts";
import { Broker } from "./broker.ts";
import type { CommandLine } from "./command-line.ts";
import type { Host } from "./host.ts";
import { isTrue, MessageLoop } from "./message-loop.ts";
import { openSession } from "./session.ts";
import type { Signals } from "./signals.ts";

export async function listen(host: Host, options: CommandLine, signals: Signals): Promise<number> {
  const { installation, terminal } = host;
  const { root } = installation;
  const jit = options.argument("jitconfig");
  if (jit !== undefined) {
    try {
      writeJitConfig(root, jit);
    } catch (error) {
      terminal.error(error instanceof Error ? error.message : String(error));
      return 1;
    }
  }
  const settings = readSettings(root);
  if (!settings) {
    terminal.error("An error occurred: Not configured. Run config.(sh/cmd) to configure the runner.");
    return 1;
  }
  if (options.flag("once")) {
    terminal.line(
      "Warning: '--once' is going to be deprecated in the future, please consider using '--ephemeral' during runner registration.",
    );
    terminal.line("https://docs.github.com/en/actions/hosting-your-own-runners/autoscaling");
  }
  const workFolder = resolve(root, settings.workFolder);
  try {
    mkdirSync(workFolder, { recursive: true });
  } catch {
    terminal.error(`Fail to create and validate runner's work directory '${workFolder}'.`);
    return 1;
  }
  const scenario = installation.scenario === null ? undefined : scenarios[installation.scenario];
  if (scenario?.ignoreInt) signals.ignoreInt();
  if (scenario?.ignoreTerm) signals.ignoreTerm();
  if (scenario?.startUp?.kind === "slow") await installation.wait(scenario.startUp.seconds, signals.shutdown);
  if (scenario?.startUp?.kind === "exit") {
    terminal.error(scenario.startUp.stderr);
    return scenario.startUp.code;
  }
  const hosted = isTrue(process.env["ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED"]);
  const broker = new Broker(settings.serverUrlV2, readClientId(root), installation.version);
  const runOnce = settings.ephemeral || options.flag("once") || hosted;
  for (;;) {
    const opened = await openSession(host, broker, settings.agentName, signals.shutdown);
    if (opened !== "open") return signals.shutdown.aborted ? signals.exitCode : opened;
    recordPerf("Runner", "SessionCreated");
    terminal.line(`Current runner version: '${installation.version}'`);
    terminal.timedLine("Listening for Jobs");
    const loop = new MessageLoop(host, broker, signals, { runOnce, hosted, ephemeral: settings.ephemeral });
    const ended = await loop.run();
    if (ended !== "session-expired") return ended;
  }
}
