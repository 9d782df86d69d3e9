/**
 * Programs for the probes of this folder, one for each name, started on the runtime that the test runs on: what they
 * try (signals to oneself, an end by an error) would end the test.
 */
import { spawn } from "node:child_process";
import { MigError } from "@mig/lifecycle";
import { lockDirectory } from "../../src/memory/lock.ts";

const [name = "", argument = ""] = process.argv.slice(2);
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const stay = (): void => void setInterval(() => {}, 1_000);

const programs: Record<string, () => void | Promise<void>> = {
  /** As main.ts does: two signals are told apart, and the first does not end the process. */
  signals() {
    process.on("SIGTERM", () => say("SIGTERM"));
    process.on("SIGINT", () => process.exit(130));
    stay();
    say("ready");
  },
  throws() {
    process.on("uncaughtException", endWith(70, "uncaughtException"));
    setTimeout(() => {
      throw new Error("boom");
    }, 1);
    stay();
  },
  /** Only with the listener that main.ts has. */
  rejects() {
    process.on("uncaughtException", endWith(70, "uncaughtException"));
    void Promise.reject(new Error("boom"));
    stay();
  },
  rejectsWithListener() {
    process.on("uncaughtException", endWith(71, "uncaughtException"));
    process.on("unhandledRejection", endWith(70, "unhandledRejection"));
    void Promise.reject(new Error("boom"));
    stay();
  },
  /** Nothing here may keep a process alive, and the child must outlive it. */
  unref() {
    setInterval(() => {}, 1_000).unref();
    setTimeout(() => {}, 60_000).unref();
    const child = spawn("sleep", ["60"], { detached: true, stdio: "ignore" });
    child.once("spawn", () => {
      child.unref();
      say(String(child.pid));
    });
  },
  async lock() {
    const outcome = await lockDirectory(argument).then(
      () => "locked",
      (error: unknown) => (error instanceof MigError ? error.code : String(error)),
    );
    say(outcome);
    if (outcome === "locked") stay();
  },
  /** A child that outlives its parent: whatever the parent had open must not live on in it. */
  async lockAndLeaveChild() {
    await lockDirectory(argument);
    const child = spawn("sleep", ["60"], { detached: true, stdio: "ignore" });
    child.once("spawn", () => say(String(child.pid)));
    stay();
  },
  /** Whoever read the log has gone: the listener of main.ts, and on it goes. */
  brokenPipe() {
    for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
    let lines = 0;
    setInterval(() => {
      say("x".repeat(100));
      lines += 1;
      if (lines === 30) process.exit(9);
    }, 5);
  },
  /** As `miglet config` ends: text, then process.exit. The size is well above what any of them prints. */
  lastWords() {
    process.stdout.write(`${"x".repeat(Number(argument))}\n`);
    process.exit(3);
  },
};

const endWith = (code: number, by: string) => (error: unknown) => {
  say(`${by}: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(code);
};

await programs[name]?.();
