import { parseArgs } from "node:util";
import { PRODUCT_VERSION } from "@mig/protocol";
import { type DevSettings, dev } from "./dev/dev.ts";

/**
 * migctl. Exit codes: 0 done · 1 what was asked failed · 2 the command line is wrong.
 */
const help = `migctl ${PRODUCT_VERSION}

  migctl dev [--vms N] [--port P] [--once] [--dir DIR]
      The whole system on this machine: a controller, a stand-in for GitHub, and VMs, each a MIGlet with a stand-in
      runner that runs one job. Tells their lives as they happen, then goes on serving until Ctrl-C.
        --vms N      how many VMs (default 1)
        --port P     the controller's port (default 8080, or a free one when that is taken)
        --once       end when the VMs have ended, instead of serving on
        --dir DIR    where everything is kept (default .mig/dev; emptied at the start)

  migctl --help | --version
`;

async function main(): Promise<number> {
  const [command, ...rest] = process.argv.slice(2);
  if (command === "--version" || command === "-v") return say(PRODUCT_VERSION);
  if (command === undefined || command === "--help" || command === "-h" || command === "help")
    return say(help);
  if (command !== "dev") return complain(`there is no command "${command}"`);
  if (rest.includes("--help") || rest.includes("-h")) return say(help);
  const settings = readDevSettings(rest);
  if (typeof settings === "string") return complain(settings);
  const end = new AbortController();
  process.on("SIGINT", () => end.abort());
  process.on("SIGTERM", () => end.abort());
  return dev(settings, end.signal);
}

function readDevSettings(args: string[]): DevSettings | string {
  try {
    const { values } = parseArgs({
      args,
      options: {
        vms: { type: "string", default: "1" },
        port: { type: "string" },
        once: { type: "boolean", default: false },
        dir: { type: "string", default: ".mig/dev" },
      },
    });
    const vms = Number(values.vms);
    if (!Number.isInteger(vms) || vms < 1 || vms > 200) return "--vms takes a whole number from 1 to 200";
    const port = values.port === undefined ? undefined : Number(values.port);
    if (port !== undefined && (!Number.isInteger(port) || port < 1 || port > 65_535))
      return "--port takes a port number";
    return { vms, port, once: values.once, dir: values.dir };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function say(text: string): number {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  return 0;
}

function complain(problem: string): number {
  process.stderr.write(`migctl: ${problem}\nTry: migctl --help\n`);
  return 2;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`migctl: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
