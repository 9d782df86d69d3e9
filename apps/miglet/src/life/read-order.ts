import { isLogLevel, type LogLevel, parseDurationMs } from "@mig/kit";
import {
  asObject,
  type Command,
  type DiagnosticsOrder,
  isCommandType,
  type JsonObject,
  limits,
  maybe,
  readDiagnosticsOrder,
  readText,
  readTexts,
} from "@mig/protocol";
import type { Verdict } from "../shutdown/drain.ts";
import type { Rules, RunnerIdentity } from "./words.ts";

export type { LogLevel };

/** Permission to register: exactly one of the two kinds. It passes through and is never kept. */
export type RunnerMaterial =
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "jit"; readonly jitConfig: string };

/** The version that this VM must run; without one, whatever the image has or the settings say. */
export interface RunnerPin {
  readonly version?: string;
  /** Of the archive, for each platform (linux-x64, linux-arm64) or for any. */
  readonly sha256?: string | Readonly<Record<string, string>>;
  readonly downloadUrl?: string;
}

/** What `update_config` may change while the agent runs. */
export interface ConfigChange {
  readonly heartbeatIntervalMs?: number;
  readonly logLevel?: LogLevel;
  readonly graceMs?: number;
  readonly forceAfterMs?: number;
}

/** How long a job may keep a VM that is wanted away, and what then: end it, or only tell. */
export interface Deadline {
  readonly afterMs: number;
  readonly action: "force" | "report";
}

export interface RegistrationOrder {
  readonly type: "register_runner";
  readonly runner: RunnerIdentity;
  readonly material: RunnerMaterial;
  readonly pin: RunnerPin;
}

export interface Unreadable {
  readonly type: "unreadable";
  readonly why: string;
}

export type Order =
  | RegistrationOrder
  | { readonly type: "drain"; readonly verdict: Verdict; readonly deadline?: Deadline }
  | { readonly type: "shutdown"; readonly isForced: boolean; readonly deadline?: Deadline }
  /** `forMs`: then the level is again what it was. */
  | { readonly type: "set_log_level"; readonly level: LogLevel; readonly forMs?: number }
  | { readonly type: "update_config"; readonly change: ConfigChange }
  | { readonly type: "collect_diagnostics"; readonly wanted: DiagnosticsOrder }
  | Unreadable;

/** What a grant leaves open. */
export type RegistrationDefaults = Pick<Rules, "vmId" | "labels" | "runnerGroup">;

/** Understands a command, or says in a sentence why not. */
export function readOrder(command: Command, defaults: RegistrationDefaults): Order {
  const { type, parameters } = command;
  if (!isCommandType(type)) return unreadable(`There is no command ${JSON.stringify(type.slice(0, 64))}.`);
  switch (type) {
    case "register_runner":
      return readRegistration(command.id, parameters, defaults);
    case "drain": {
      const deadline = readDeadline(parameters);
      if (typeof deadline === "string") return unreadable(deadline);
      const said = readText(parameters, "registration");
      const verdict = said === "removed" || said === "busy" ? said : "unknown";
      return { type, verdict, ...maybe("deadline", deadline) };
    }
    case "shutdown": {
      const deadline = readDeadline(parameters);
      if (typeof deadline === "string") return unreadable(deadline);
      // Seed 001: "Shutdown immediately or after current job". After the job unless somebody says otherwise.
      const isForced = parameters["force"] === true || parameters["immediate"] === true;
      return { type, isForced, ...maybe("deadline", deadline) };
    }
    case "set_log_level": {
      const level = readLevel(readText(parameters, "level") ?? readText(parameters, "log_level"));
      if (level === undefined) return unreadable("level is debug, info, warn or error.");
      const forMs = readMs(parameters["for"]);
      if (parameters["for"] !== undefined && !isWithin(forMs, 1_000, dayMs))
        return unreadable("for is between 1s and 24h.");
      return { type, level, ...maybe("forMs", forMs) };
    }
    case "update_config":
      return readChange(parameters);
    case "collect_diagnostics": {
      const wanted = readDiagnosticsOrder(parameters);
      return typeof wanted === "string" ? unreadable(wanted) : { type, wanted };
    }
  }
}

/** `id` makes the name unique where the grant names no runner. Other names of the production attempt's controller are accepted (reference/go-agent-wire.md §15). */
export function readRegistration(
  id: string,
  parameters: JsonObject,
  { vmId, ...defaults }: RegistrationDefaults,
): RegistrationOrder | Unreadable {
  const text = (...keys: string[]): string | undefined =>
    keys.map((key) => readText(parameters, key)).find((value) => value !== undefined);
  const jitConfig = text("jit_config", "encoded_jit_config");
  const token = text("registration_token", "token");
  const runnerUrl = text("runner_url", "url");
  const given = readTexts(parameters, "labels") ?? [];
  const labels = given.length > 0 ? given : defaults.labels;
  if (jitConfig === undefined && token === undefined)
    return unreadable("register_runner needs jit_config or registration_token.");
  if (jitConfig === undefined && !isWebUrl(runnerUrl))
    return unreadable("register_runner with a registration_token needs runner_url, an http or https URL.");
  const odd = labels.find((label) => /[,\p{Cc}]/u.test(label));
  if (odd !== undefined)
    return unreadable(`A label has no comma and no control character: ${JSON.stringify(odd.slice(0, 64))}.`);
  if (labels.length > limits.labelsMax || labels.some((label) => label.length > limits.labelLengthMax))
    return unreadable(
      `A runner has at most ${limits.labelsMax} labels of ${limits.labelLengthMax} characters.`,
    );
  const pin = readPin(parameters);
  if (typeof pin === "string") return unreadable(pin);
  return {
    type: "register_runner",
    pin,
    material: jitConfig === undefined ? { kind: "token", token: token ?? "" } : { kind: "jit", jitConfig },
    runner: {
      // Unique for each attempt: GitHub refuses a second runner of the same name (runner-contract trap 28).
      name:
        text("runner_name", "name") ?? `${vmId.slice(0, 48)}-${id.replace(/[^A-Za-z0-9]/g, "").slice(-8)}`,
      labels,
      ...maybe("runnerUrl", runnerUrl),
      ...maybe("runnerGroup", text("runner_group", "group") ?? defaults.runnerGroup),
    },
  };
}

/** `runner_version`, `runner_sha256` and `runner_download_url`, or a sentence that says what is wrong with them. */
function readPin(parameters: JsonObject): RunnerPin | string {
  const version = readText(parameters, "runner_version")?.replace(/^v/, "");
  if (version !== undefined && !/^\d{1,4}\.\d{1,4}\.\d{1,6}$/.test(version))
    return "runner_version is like 2.336.0.";
  const downloadUrl = readText(parameters, "runner_download_url");
  if (downloadUrl !== undefined && !isWebUrl(downloadUrl))
    return "runner_download_url is an http or https URL.";
  const given = parameters["runner_sha256"];
  const sums = typeof given === "string" ? [given] : Object.values(asObject(given) ?? {});
  if (sums.some((sum) => typeof sum !== "string" || !/^[0-9a-f]{64}$/i.test(sum)))
    return "runner_sha256 is 64 hexadecimal digits, or an object of them by platform.";
  const sha256 =
    typeof given === "string" ? given.toLowerCase() : (given as Record<string, string> | undefined);
  return { ...maybe("version", version), ...maybe("sha256", sha256), ...maybe("downloadUrl", downloadUrl) };
}

const isWebUrl = (url: string | undefined): boolean =>
  url !== undefined && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);

const dayMs = 24 * 3_600_000;

const readMs = (value: unknown): number | undefined =>
  typeof value === "string" ? parseDurationMs(value) : typeof value === "number" ? value : undefined;

const isWithin = (ms: number | undefined, low: number, high: number): ms is number =>
  ms !== undefined && Number.isFinite(ms) && ms >= low && ms <= high;

/** `deadline` and `at_deadline`, or a sentence that says what is wrong with them. GitHub's longest job takes 5 days. */
function readDeadline({
  deadline,
  at_deadline: action = "report",
}: JsonObject): Deadline | string | undefined {
  if (action !== "force" && action !== "report") return "at_deadline is force or report.";
  if (deadline === undefined) return action === "force" ? "at_deadline needs a deadline." : undefined;
  const afterMs = readMs(deadline);
  return isWithin(afterMs, 1_000, 6 * dayMs) ? { afterMs, action } : "deadline is between 1s and 6 days.";
}

const bounds = { heartbeatMinMs: 1_000, heartbeatMaxMs: 3_600_000, graceMaxMs: 24 * 3_600_000 };

function readChange(parameters: JsonObject): Order {
  let change: ConfigChange = {};
  const entries = Object.entries(parameters);
  if (entries.length === 0) return unreadable("update_config names nothing to change.");
  for (const [key, value] of entries) {
    const ms = readMs(value);
    switch (key.replaceAll(".", "_")) {
      case "heartbeat_interval":
      case "heartbeat_interval_ms":
        if (!isWithin(ms, bounds.heartbeatMinMs, bounds.heartbeatMaxMs))
          return unreadable(`${key} is between 1s and 1h.`);
        change = { ...change, heartbeatIntervalMs: ms };
        break;
      case "shutdown_grace_period":
        if (!isWithin(ms, 0, bounds.graceMaxMs)) return unreadable(`${key} is between 0 and 24h.`);
        change = { ...change, graceMs: ms };
        break;
      case "shutdown_force_after":
        if (!isWithin(ms, 0, bounds.graceMaxMs)) return unreadable(`${key} is between 0 and 24h.`);
        change = { ...change, forceAfterMs: ms };
        break;
      case "log_level":
      case "logging_level": {
        const logLevel = readLevel(typeof value === "string" ? value : undefined);
        if (logLevel === undefined) return unreadable(`${key} is debug, info, warn or error.`);
        change = { ...change, logLevel };
        break;
      }
      default:
        // Endpoints, paths and labels among them: whoever could change those from afar would own the VM.
        return unreadable(`${key.slice(0, 64)} cannot be changed while the agent runs.`);
    }
  }
  return { type: "update_config", change };
}

/** `warning` is seed 001's word. */
function readLevel(text: string | undefined): LogLevel | undefined {
  const level = text?.toLowerCase() === "warning" ? "warn" : text?.toLowerCase();
  return level !== undefined && isLogLevel(level) ? level : undefined;
}

const unreadable = (why: string): Unreadable => ({ type: "unreadable", why });
