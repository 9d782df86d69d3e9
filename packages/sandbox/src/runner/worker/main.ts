/**
 * The program behind `bin/Runner.Worker spawnclient <fd> <fd>`: waits for the job on the pipe, runs it, reports it
 * to GitHub, and ends with 100 + TaskResult. The end of the pipe means nothing to it: a Worker whose Listener
 * was killed finishes its job (runner-contract §3.5).
 */
import { Socket } from "node:net";
import { createInterface } from "node:readline";
import type { JobMessage } from "../../github/job-message.ts";
import { taskResults } from "../../github/types.ts";
import { DiagLog, recordPerf } from "../diag-log.ts";
import { readInstallation } from "../installation.ts";
import { type Interruption, runJob } from "./run-job.ts";

const exitTimeoutSeconds = 30;

for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
const installation = readInstallation();
const log = new DiagLog(installation.root, "Worker");
recordPerf("Worker", "WorkerProcessStarted");

const cancel = new AbortController();
const shutdown = new AbortController();
const interruption: Interruption = { cancel: cancel.signal, shutdown: shutdown.signal };

process.on("SIGINT", () => log.info("Worker", "Ignoring SIGINT."));
process.on("SIGTERM", () => {
  shutdown.abort("term");
  void installation.wait(exitTimeoutSeconds).then(() => process.exit(143));
});

const pipe = new Socket({ fd: Number(process.argv[3] ?? 3), readable: true, writable: false });
pipe.on("error", () => {});
// Keeps the process alive after the end of the pipe.
const alive = setInterval(() => {}, 1_000);
recordPerf("Worker", "WorkerWaitingForJobMessage");
createInterface({ input: pipe }).on("line", (line) => {
  const message = JSON.parse(line) as { type: string; body: JobMessage };
  if (message.type === "CancelRequest") cancel.abort();
  else if (message.type === "RunnerShutdown") shutdown.abort("user");
  else if (message.type === "OperatingSystemShutdown") shutdown.abort("system");
  else void work(message.body);
});

async function work(message: JobMessage): Promise<void> {
  recordPerf("Worker", `WorkerJobMessageReceived_${message.requestId}`);
  const result = await runJob(installation, log, message, interruption);
  clearInterval(alive);
  // A SIGTERM to the Worker itself looks like a crash to the Listener.
  process.exit(shutdown.signal.reason === "term" ? 143 : 100 + taskResults.indexOf(result));
}
