/** The program behind `bin/Runner.Listener`: `.env`, `_diag` log, then configure, remove, run or `--version`. */
import { opendirSync } from "node:fs";
import { dirname } from "node:path";
import { DiagLog, recordPerf } from "../diag-log.ts";
import { readInstallation } from "../installation.ts";
import { parseCommandLine } from "./command-line.ts";
import { configure } from "./configure.ts";
import { applyEnvFile } from "./env-file.ts";
import type { Host } from "./host.ts";
import { listen } from "./listen.ts";
import { remove } from "./remove.ts";
import { watchSignals } from "./signals.ts";
import { Terminal } from "./terminal.ts";

async function main(): Promise<number> {
  // A reader that has gone must not end the runner: .NET ignores a broken pipe on its console streams.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const installation = readInstallation();
  applyEnvFile(installation.root, process.env);
  const log = new DiagLog(installation.root, "Runner");
  const host: Host = { installation, log, terminal: new Terminal(log) };
  recordPerf("Runner", "RunnerProcessStarted");
  try {
    for (let folder = installation.root; ; folder = dirname(folder)) {
      opendirSync(folder).closeSync();
      if (folder === dirname(folder)) break;
    }
  } catch {
    host.terminal.error(
      `An error occurred: Permission to read the directory contents is required for '${installation.root}' and each directory up the hierarchy.`,
    );
    return 1;
  }
  const options = parseCommandLine(process.argv.slice(2), process.env);
  if (options.flag("version")) return print(host, installation.version);
  if (options.flag("commit")) return print(host, "258d6c857db3519913f7deb6004b60172f8043ae");
  if (options.flag("help")) return print(host, "Commands: ./config.sh, ./config.sh remove, ./run.sh");
  if (options.unknown.length > 0) {
    const names = options.unknown.map((name) => `'${name}'`).join(", ");
    host.terminal.error(
      `Unrecognized command-line input arguments for command ${options.command}: ${names}. For usage refer to: .\\config.cmd --help or ./config.sh --help`,
    );
  }
  const code = await perform(host, options);
  log.info("Listener", `Runner execution has finished with return code ${code}`);
  return code;
}

async function perform(host: Host, options: ReturnType<typeof parseCommandLine>): Promise<number> {
  if (options.command === "run") return await listen(host, options, watchSignals(host, exitNow));
  if (options.command === "warmup") return 0;
  process.on("SIGINT", () => {
    host.terminal.line("Exiting...");
    exitNow(1);
  });
  try {
    if (options.command === "remove") await remove(host, options);
    else await configure(host, options);
    return 0;
  } catch (error) {
    host.terminal.error(error instanceof Error ? error.message : String(error));
    return 1;
  }
}

function print(host: Host, text: string): number {
  host.terminal.line(text);
  return 0;
}

function exitNow(code: number): void {
  process.exit(code);
}

process.exit(await main());
