import { parse } from "../options.ts";
import { UsageError, type Verb } from "../verb.ts";
import type { DevSettings } from "./dev.ts";

const options = {
  vms: { type: "string", default: "1" },
  port: { type: "string" },
  once: { type: "boolean", default: false },
  dir: { type: "string", default: ".mig/dev" },
  json: { type: "boolean", default: false },
} as const;

export const devVerb: Verb = {
  name: "dev",
  help: `[--vms N] [--port P] [--once] [--dir DIR] [--json]
      The whole system on this machine: a controller, a stand-in for GitHub, and VMs, each a MIGlet with a stand-in
      runner that runs one job. Tells their lives as they happen, then goes on serving until Ctrl-C.
        --vms N      how many VMs (default 1)
        --port P     the controller's port (default 8080, or a free one when that is taken)
        --once       end when the VMs have ended, instead of serving on
        --dir DIR    where everything is kept (default .mig/dev; emptied at the start)
        --json       a JSON object for each thing that happens: seconds, who, what
      Exit codes: 0 done, 1 a VM did not do its job, 2 the command line is wrong.`,
  examples: ["migctl dev", "migctl dev --vms 5 --once"],
  options,
  check: (args) => void readSettings(args),
  async run(args, { signal, out }) {
    const settings = readSettings(args);
    // Loaded late: the stand-ins are not for those who only ask a controller.
    const { dev } = await import("./dev.ts");
    return dev(settings, signal, out);
  },
};

function readSettings(args: string[]): DevSettings {
  const { values } = parse(args, options);
  const vms = Number(values.vms);
  if (!Number.isInteger(vms) || vms < 1 || vms > 200)
    throw new UsageError("--vms takes a whole number from 1 to 200");
  const port = values.port === undefined ? undefined : Number(values.port);
  if (port !== undefined && (!Number.isInteger(port) || port < 1 || port > 65_535))
    throw new UsageError("--port takes a port number");
  return { vms, port, once: values.once, dir: values.dir, isJson: values.json };
}
