import { parseArgs } from "node:util";
import { UsageError, type Verb } from "../verb.ts";
import type { DevSettings } from "./dev.ts";

const options = {
  vms: { type: "string", default: "1" },
  port: { type: "string" },
  once: { type: "boolean", default: false },
  dir: { type: "string", default: ".mig/dev" },
} as const;

export const devVerb: Verb = {
  name: "dev",
  help: `[--vms N] [--port P] [--once] [--dir DIR]
      The whole system on this machine: a controller, a stand-in for GitHub, and VMs, each a MIGlet with a stand-in
      runner that runs one job. Tells their lives as they happen, then goes on serving until Ctrl-C.
        --vms N      how many VMs (default 1)
        --port P     the controller's port (default 8080, or a free one when that is taken)
        --once       end when the VMs have ended, instead of serving on
        --dir DIR    where everything is kept (default .mig/dev; emptied at the start)
      Exit codes: 0 done, 1 a VM did not do its job, 2 the command line is wrong.`,
  examples: ["migctl dev", "migctl dev --vms 5 --once"],
  options,
  async run(args, { signal }) {
    const settings = readSettings(args);
    // Loaded late: the stand-ins are not for those who only ask a controller.
    const { dev } = await import("./dev.ts");
    return dev(settings, signal);
  },
};

function readSettings(args: string[]): DevSettings {
  const { values } = parse(args);
  const vms = Number(values.vms);
  if (!Number.isInteger(vms) || vms < 1 || vms > 200)
    throw new UsageError("--vms takes a whole number from 1 to 200");
  const port = values.port === undefined ? undefined : Number(values.port);
  if (port !== undefined && (!Number.isInteger(port) || port < 1 || port > 65_535))
    throw new UsageError("--port takes a port number");
  return { vms, port, once: values.once, dir: values.dir };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options,
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
