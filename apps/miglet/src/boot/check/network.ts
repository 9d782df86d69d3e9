import { readFile } from "node:fs/promises";
import { formatDurationMs, pause } from "@mig/kit";
import type { Settings } from "../settings-table.ts";
import { type CheckSpec, checkMs, type Machine } from "./check.ts";
import { proxyFor } from "./proxy.ts";
import { type Reached, reach } from "./reach.ts";

/** What was learned about the clock while something else was looked at. */
export interface SeenClock {
  readonly host: string;
  readonly aheadMs: number;
}

/** Both ends of the network, and the clock by what they answer: one look at each serves two checks. */
export function networkChecks(): readonly CheckSpec[] {
  const clocks: Promise<SeenClock | undefined>[] = [];
  const look = async (reached: Promise<Reached>): Promise<string> => {
    clocks.push(
      reached.then(
        ({ host, aheadMs }) => (aheadMs === undefined ? undefined : { host, aheadMs }),
        () => undefined,
      ),
    );
    const { how } = await reached;
    return how;
  };
  const controller: CheckSpec = {
    name: "controller",
    needs: ["controller.endpoint", "controller.grpc_endpoint", "controller.ca_path"],
    isRequired: (settings) => settings["prerequisites.network"],
    isCheap: false,
    canHeal: true,
    code: "controller_unreachable",
    find: (settings, _, signal) => look(reachController(settings, signal)),
  };
  const github: CheckSpec = {
    name: "github",
    needs: ["prerequisites.github_url"],
    isRequired: (settings) => settings["prerequisites.github"],
    isCheap: false,
    canHeal: true,
    code: "github_unavailable",
    find: (settings, machine, signal) => look(reachGithub(settings, machine, signal)),
  };
  /** More than five minutes, and GitHub refuses the runner's tokens for half an hour (runner-contract trap 42). */
  const clock: CheckSpec = {
    name: "clock",
    needs: [],
    isRequired: () => false,
    isCheap: false,
    async find(_, __, signal) {
      const late = pause(checkMs * 0.9, signal).then(() => []);
      const seen = (await Promise.race([Promise.all(clocks), late])).find((one) => one !== undefined);
      if (seen === undefined) return "not known: nobody was reached";
      const { host, aheadMs } = seen;
      const shown = formatDurationMs(Math.round(Math.abs(aheadMs) / 1_000) * 1_000);
      if (Math.abs(aheadMs) > clockMs)
        throw new Error(
          `The clock is ${shown} ${aheadMs > 0 ? "ahead of" : "behind"} that of ${host}: start chrony or systemd-timesyncd.`,
        );
      return `${shown === "0" ? "no second" : shown} away from that of ${host}`;
    },
  };
  // In this order: the clock looks at what the others have begun.
  return [controller, github, clock];
}

const clockMs = 60_000;

async function reachController(settings: Settings, signal: AbortSignal): Promise<Reached> {
  const target = settings["controller.endpoint"] ?? settings["controller.grpc_endpoint"] ?? "";
  const url = new URL(/^https?:/.test(target) ? target : `http://${target}`);
  const read = async (key: "controller.ca_path" | "controller.tls.cert_path" | "controller.tls.key_path") => {
    const path = settings[key];
    return path === undefined
      ? undefined
      : readFile(path, "utf8").catch((error: NodeJS.ErrnoException): never => {
          throw new Error(`${path} cannot be read (${error.code}): check ${key}.`);
        });
  };
  return reach(url, {
    signal,
    ca: await read("controller.ca_path"),
    cert: await read("controller.tls.cert_path"),
    key: await read("controller.tls.key_path"),
    caSetting: "controller.ca_path",
    addressSetting: "controller.endpoint",
  });
}

function reachGithub(settings: Settings, { environment }: Machine, signal: AbortSignal): Promise<Reached> {
  const url = new URL(settings["prerequisites.github_url"]);
  return reach(url, {
    signal,
    proxy: proxyFor(url, environment),
    addressSetting: "prerequisites.github_url",
  });
}
