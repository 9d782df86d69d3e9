import { randomUUID } from "node:crypto";
import { logLevels } from "@mig/kit";
import { readText } from "@mig/protocol";
import { type Asked, apiVerb, type Option } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";
import { followCommand, waitExits, waitOptions } from "./follow-command.ts";
import { tell } from "./list-verb.ts";
import { endingOptions, readEnding, readTime, shutdownOptions } from "./order-options.ts";

const expiry: Readonly<Record<string, Option>> = {
  "expires-in": { takes: "TIME", help: "drop it when the VM has not taken it by then" },
};
const changes = {
  "heartbeat-interval": { takes: "TIME", help: "how often it says that it lives" },
  "log-level": { takes: "LEVEL", oneOf: logLevels, help: "also after its next start" },
  "shutdown-grace-period": { takes: "TIME", help: "for its last words" },
  "shutdown-force-after": { takes: "TIME", help: "for a job that was told to end" },
} as const satisfies Record<string, Option>;

/** One VM is told to do something. */
export const vmOrderVerbs: readonly Verb[] = [
  apiVerb({
    name: "vm drain",
    words: ["VM"],
    about: "Lets the VM finish its job and take no other.",
    options: { ...endingOptions, ...expiry, ...waitOptions },
    exits: waitExits,
    examples: [
      "migctl vm drain vm-1 --wait",
      'migctl vm drain vm-1 --deadline 30m --at-deadline force --reason "new kernel"',
    ],
    run: (asked) => order(asked, "drain", readEnding(asked)),
  }),
  apiVerb({
    name: "vm shutdown",
    words: ["VM"],
    about: "Shuts the VM down after its job, or at once.",
    options: { ...shutdownOptions, ...endingOptions, ...expiry, ...waitOptions },
    exits: waitExits,
    examples: [
      "migctl vm shutdown vm-1 --after-job --wait",
      "migctl vm shutdown vm-1 --force --wait --timeout 2m",
    ],
    run: (asked) => order(asked, "shutdown", readEnding(asked)),
  }),
  apiVerb({
    name: "vm set-log-level",
    words: ["VM", "LEVEL"],
    about: `What its agent logs: ${logLevels.join(", ")}. Until its next start, or for a while.`,
    options: { for: { takes: "TIME", help: "then as before, as in 10m" }, ...expiry, ...waitOptions },
    exits: waitExits,
    examples: ["migctl vm set-log-level vm-1 debug --for 10m", "migctl vm set-log-level vm-1 info --wait"],
    run: (asked) => {
      const level = asked.words[1] ?? "";
      if (!logLevels.some((one) => one === level))
        throw new UsageError(`LEVEL is one of ${logLevels.join(", ")}`);
      readTime(asked, "for");
      const time = asked.text("for");
      return order(asked, "set_log_level", { level, ...(time === undefined ? {} : { for: time }) });
    },
  }),
  apiVerb({
    name: "vm set-config",
    words: ["VM"],
    about: "Changes settings of its agent, also for its next starts.",
    options: { ...changes, ...expiry, ...waitOptions },
    exits: waitExits,
    examples: [
      "migctl vm set-config vm-1 --heartbeat-interval 30s",
      "migctl vm set-config vm-1 --log-level warn --shutdown-grace-period 2m --wait",
    ],
    run: (asked) => {
      const said = Object.keys(changes).flatMap((name) => {
        const value = asked.text(name);
        return value === undefined ? [] : [[name.replaceAll("-", "_"), value]];
      });
      if (said.length === 0)
        throw new UsageError(
          `what shall change? Name at least one of ${Object.keys(changes)
            .map((name) => `--${name}`)
            .join(", ")}`,
        );
      return order(asked, "update_config", Object.fromEntries(said));
    },
  }),
];

/** The key makes one order of it, should the connection break and the order be sent again. */
async function order(asked: Asked, type: string, parameters: object): Promise<number> {
  const { api, io, words, text, has } = asked;
  readTime(asked, "timeout");
  if (text("timeout") !== undefined && !has("wait")) throw new UsageError("--timeout goes with --wait");
  const expiresIn = text("expires-in");
  const body = { type, parameters, ...(expiresIn === undefined ? {} : { expires_in: expiresIn }) };
  const path = pathOf(`vms/${inPath(words[0])}/commands`);
  const command = await api.call("POST", path, body, { "idempotency-key": randomUUID() });
  const id = readText(command, "id") ?? "?";
  if (has("wait")) return followCommand(asked, id);
  if (has("json")) return tell(io, true, command);
  io.out(`${type} is queued for ${words[0]}\nSee how it goes:\n  migctl command show ${id} --wait\n`);
  return exitCodes.done;
}
