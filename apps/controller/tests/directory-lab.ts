import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLog, waitFor } from "@mig/kit";
import { asObject, type Unknown } from "@mig/protocol";
import { onTestFinished } from "vitest";
import { buildConfig } from "../src/config/config.ts";
import { readInvocation } from "../src/config/env.ts";
import { showProblems } from "../src/config/show.ts";
import type { IdentityTimes } from "../src/controller/open-identity.ts";
import { runController } from "../src/controller.ts";
import { newLabDatabase } from "./lab-database.ts";
import { call, type Reply } from "./open-test-listeners.ts";

export interface TestController {
  url: string;
  dir: string;
  lines: Unknown[];
  /** What it says to the person who starts it. */
  told: string[];
  api(method: string, path: string, json?: object, headers?: Record<string, string>): Promise<Reply>;
  stop(): Promise<void>;
}

export interface ControllerOptions {
  flags?: string[];
  databaseUrl?: string;
  /** When it is stopped; default: at the end of the test. */
  atEnd?(stop: () => Promise<void>): void;
  /** Signing keys that rotate in seconds. */
  times?: IdentityTimes;
}

/** Tests share their processor with others, and mean their own answers: how it sheds load has tests of its own. */
export const atEase = ["--limits-shed-load=false"];

/** A whole controller in this process, on free ports, with a YAML file. Stopped at the end of the test. */
export async function startController(
  yaml: object,
  { flags = ["--dev"], databaseUrl: given, atEnd = onTestFinished, times }: ControllerOptions = {},
): Promise<TestController> {
  const dir = await mkdtemp(join(tmpdir(), "mig-directory-"));
  const own = given === undefined ? await newLabDatabase(join(dir, "data")) : undefined;
  const databaseUrl = given ?? own?.databaseUrl;
  const file = join(dir, "mig.yaml");
  await writeFile(file, JSON.stringify(yaml));
  const outcome = buildConfig(
    readInvocation(
      [
        ...["--listen", "127.0.0.1:0", "--grpc-listen", "off", "--data-dir", join(dir, "data")],
        ...["--config", file, "--shutdown-grace", "100ms", ...atEase, ...flags],
        ...(databaseUrl === undefined ? [] : ["--database-url", databaseUrl]),
      ],
      {},
    ),
  );
  if (!outcome.ok) throw new Error(showProblems(outcome.problems));
  const lines: Unknown[] = [];
  const log = createLog({
    level: "debug",
    format: "json",
    write: (line) => void lines.push(asObject(JSON.parse(line)) ?? {}),
  });
  const told: string[] = [];
  const stop = new AbortController();
  let failure: unknown;
  const tell = (text: string): void => void told.push(text);
  const run = runController(outcome.config, log, stop.signal, tell, times).catch((error: unknown) => {
    failure = error;
  });
  const end = async (): Promise<void> => {
    stop.abort();
    await run;
    await own?.drop();
    await rm(dir, { recursive: true, force: true });
  };
  atEnd(end);
  const ready = await waitFor(
    "the controller to be ready",
    () => {
      if (failure !== undefined) throw failure;
      return lines.find(({ msg }) => msg === "the controller is ready");
    },
    { timeoutMs: 40_000 },
  );
  const { host, port } = asObject(ready["http"]) ?? {};
  const url = `http://${String(host)}:${String(port)}`;
  return {
    url,
    dir,
    lines,
    told,
    api: (method, path, json, headers = {}) =>
      call(`${url}/api/v1/${path}`, { method, headers, ...(json === undefined ? {} : { json }) }),
    stop: end,
  };
}

/** What an agent does first, and its request for a grant. */
export async function askForGrant(controller: TestController, vmId: string, poolId: string): Promise<Reply> {
  const event = {
    type: "vm_started",
    vm_id: vmId,
    pool_id: poolId,
    incarnation: "boot-1",
    timestamp: new Date().toISOString(),
  };
  const told = await controller.api("POST", `vms/${vmId}/events`, event);
  if (told.status !== 200) throw new Error(JSON.stringify(told.body));
  return controller.api("POST", `vms/${vmId}/registration-token`, { pool_id: poolId });
}
