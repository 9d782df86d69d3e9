import { rename, stat } from "node:fs/promises";
import { isLogLevel, type Log, type LogLevel, readFileIfThere, writeFileAtomic } from "@mig/kit";
import { type AgentState, isAgentState } from "@mig/lifecycle";
import {
  asObject,
  type JobData,
  type JsonObject,
  maybe,
  readBoolean,
  readJob,
  readNumber,
  readText,
  readTexts,
  toJsonObject,
  type Unknown,
  writeJob,
} from "@mig/protocol";

export interface FilePosition {
  path: string;
  offset: number;
}

/** The running Listener, enough to find it again and never to take another process for it. */
export interface RunnerRecord {
  pid: number;
  /** /proc/<pid>/stat field 22; undefined off Linux. */
  startTicks?: number;
  bootId: string;
  name: string;
  id?: number;
  labels: string[];
  runnerUrl?: string;
  runnerGroup?: string;
  dir: string;
  output: FilePosition;
  hooks: FilePosition;
  /** It has said "Listening for Jobs". */
  listened: boolean;
  /** The register_runner command that led to it. */
  commandId?: string;
  /** What the supervision wants to know after a restart; opaque here. */
  notes?: JsonObject;
}

/** What the agent must know after a restart of its process. */
export interface AgentMemory {
  version: 1;
  installId: string;
  bootId: string;
  incarnation: string;
  state: AgentState;
  draining: boolean;
  /** Seconds after the machine's start at which this incarnation began: no clock that is set can change it. */
  bornAtUptimeS?: number;
  /** How the life was about to end, when the process that knew it died. */
  ending?: { readonly reason: string; readonly exitCode: number };
  runner?: RunnerRecord;
  job?: JobData;
  /** memory/said.ts */
  said?: Readonly<Record<string, number>>;
  /** life/metadata-grant.ts */
  usedGrant?: string;
  /** In a row, of this life. */
  failedRegistrations?: number;
  /** Until when a drain may wait for its job, by the wall clock. */
  deadline?: RememberedDeadline;
  /** What update_config has changed, over the settings. */
  config?: RememberedConfig;
}

export interface RememberedDeadline {
  readonly atMs: number;
  readonly action: "force" | "report";
}

export interface RememberedConfig {
  readonly heartbeatIntervalMs?: number;
  readonly logLevel?: LogLevel;
  readonly graceMs?: number;
  readonly forceAfterMs?: number;
}

export interface MemoryChange {
  state?: AgentState;
  draining?: boolean;
  ending?: { readonly reason: string; readonly exitCode: number };
  runner?: RunnerRecord | undefined;
  job?: JobData | undefined;
  said?: Readonly<Record<string, number>> | undefined;
  usedGrant?: string;
  failedRegistrations?: number;
  deadline?: RememberedDeadline;
  /** Added to what was changed before. */
  config?: RememberedConfig;
}

export interface StateFile {
  read(): Readonly<AgentMemory>;
  /**
   * Changes these keys (undefined removes) and writes; on disk when it resolves. Never rejects: an agent whose disk
   * is full must still supervise its runner, so `problem` tells instead.
   */
  change(keys: MemoryChange): Promise<void>;
  problem(): string | undefined;
}

export interface FoundState {
  memory?: AgentMemory;
  /** Where a file that could not be understood was put. */
  brokenAt?: string;
}

/** Reads the file; one that cannot be understood is renamed to `<path>.broken-<n>` for people to look at. */
export async function findState(path: string, log: Log): Promise<FoundState> {
  let text: string | undefined;
  try {
    text = await readFileIfThere(path);
    if (text === undefined) return {};
    const memory = parseMemory(JSON.parse(text));
    if (memory !== undefined) return { memory };
  } catch (error) {
    log.warn({ error, path }, "The state file cannot be read.");
  }
  return { brokenAt: await setAside(path) };
}

async function setAside(path: string): Promise<string> {
  for (let n = 1; ; n += 1) {
    const aside = `${path}.broken-${n}`;
    const isTaken = await stat(aside).then(
      () => true,
      () => false,
    );
    if (isTaken && n < 9) continue;
    await rename(path, aside).catch(() => {});
    return aside;
  }
}

export function createStateFile(path: string, initial: AgentMemory, log: Log): StateFile {
  let memory = initial;
  let problem: string | undefined;
  let wanted = 0;
  let written = 0;
  let tail: Promise<void> = Promise.resolve();
  return {
    read: () => memory,
    change(keys) {
      memory = merge(memory, keys);
      wanted += 1;
      // Changes that come while a write is under way are written together by the next one.
      tail = tail.then(async () => {
        if (written === wanted) return;
        const version = wanted;
        try {
          await writeFileAtomic(path, `${JSON.stringify(renderMemory(memory), null, 2)}\n`);
          problem = undefined;
        } catch (error) {
          if (problem === undefined) log.error({ error, path }, "The state file could not be written.");
          problem = String(error);
        }
        written = version;
      });
      return tail;
    },
    problem: () => problem,
  };
}

function merge(memory: AgentMemory, keys: MemoryChange): AgentMemory {
  const { runner, job, said, ...rest } = { ...memory, ...keys };
  if (keys.config !== undefined) rest.config = { ...memory.config, ...keys.config };
  return { ...rest, ...maybe("runner", runner), ...maybe("job", job), ...maybe("said", said) };
}

function renderMemory(memory: AgentMemory): Record<string, unknown> {
  return { ...memory, ...(memory.job === undefined ? {} : { job: writeJob(memory.job) }) };
}

function parseMemory(value: unknown): AgentMemory | undefined {
  const from = asObject(value);
  if (from === undefined || readNumber(from, "version") !== 1) return undefined;
  const installId = readText(from, "installId");
  const bootId = readText(from, "bootId");
  const incarnation = readText(from, "incarnation");
  const state = readText(from, "state");
  if (installId === undefined || bootId === undefined || incarnation === undefined) return undefined;
  if (state === undefined || !isAgentState(state)) return undefined;
  const job = asObject(from["job"]);
  const said = asObject(from["said"]);
  return {
    version: 1,
    installId,
    bootId,
    incarnation,
    state,
    draining: readBoolean(from, "draining") ?? false,
    ...maybe("bornAtUptimeS", readNumber(from, "bornAtUptimeS")),
    ...maybe("ending", parseEnding(asObject(from["ending"]))),
    ...maybe("usedGrant", readText(from, "usedGrant")),
    ...maybe("deadline", parseDeadline(asObject(from["deadline"]))),
    ...maybe("config", parseConfig(asObject(from["config"]))),
    ...maybe("failedRegistrations", parseCount(from, "failedRegistrations")),
    ...maybe("runner", parseRunner(asObject(from["runner"]))),
    ...maybe("job", job === undefined ? undefined : readJob(toJsonObject(job))),
    ...maybe("said", said === undefined ? undefined : parseSaid(said)),
  };
}

function parseDeadline(from: Unknown | undefined): RememberedDeadline | undefined {
  const atMs = from === undefined ? undefined : readNumber(from, "atMs");
  const action = from === undefined ? undefined : readText(from, "action");
  return atMs === undefined || (action !== "force" && action !== "report") ? undefined : { atMs, action };
}

function parseConfig(from: Unknown | undefined): RememberedConfig | undefined {
  if (from === undefined) return undefined;
  const level = readText(from, "logLevel");
  return {
    ...maybe("heartbeatIntervalMs", parseCount(from, "heartbeatIntervalMs")),
    ...maybe("graceMs", parseCount(from, "graceMs")),
    ...maybe("forceAfterMs", parseCount(from, "forceAfterMs")),
    ...maybe("logLevel", level !== undefined && isLogLevel(level) ? level : undefined),
  };
}

function parseCount(from: Unknown, key: string): number | undefined {
  const count = readNumber(from, key);
  return count !== undefined && Number.isSafeInteger(count) && count >= 0 ? count : undefined;
}

function parseEnding(from: Unknown | undefined): AgentMemory["ending"] {
  const reason = from === undefined ? undefined : readText(from, "reason");
  const exitCode = from === undefined ? undefined : readNumber(from, "exitCode");
  return reason === undefined || exitCode === undefined ? undefined : { reason, exitCode };
}

function parseSaid(from: Unknown): Record<string, number> {
  return Object.fromEntries(
    Object.entries(from).filter((entry): entry is [string, number] => Number.isSafeInteger(entry[1])),
  );
}

function parseRunner(from: Unknown | undefined): RunnerRecord | undefined {
  if (from === undefined) return undefined;
  const pid = readNumber(from, "pid");
  const output = parsePosition(asObject(from["output"]));
  const hooks = parsePosition(asObject(from["hooks"]));
  const dir = readText(from, "dir");
  const notes = asObject(from["notes"]);
  if (pid === undefined || !Number.isSafeInteger(pid) || pid < 2) return undefined;
  if (output === undefined || hooks === undefined || dir === undefined) return undefined;
  return {
    pid,
    bootId: readText(from, "bootId") ?? "",
    name: readText(from, "name") ?? "",
    labels: readTexts(from, "labels") ?? [],
    dir,
    output,
    hooks,
    listened: readBoolean(from, "listened") ?? false,
    ...maybe("startTicks", readNumber(from, "startTicks")),
    ...maybe("id", readNumber(from, "id")),
    ...maybe("runnerUrl", readText(from, "runnerUrl")),
    ...maybe("runnerGroup", readText(from, "runnerGroup")),
    ...maybe("commandId", readText(from, "commandId")),
    ...maybe("notes", notes === undefined ? undefined : toJsonObject(notes)),
  };
}

function parsePosition(from: Unknown | undefined): FilePosition | undefined {
  const path = from === undefined ? undefined : readText(from, "path");
  const offset = from === undefined ? undefined : readNumber(from, "offset");
  return path === undefined || offset === undefined || offset < 0 ? undefined : { path, offset };
}
