import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { createLog, type LogFields, waitFor } from "./index.ts";

const collect = (format: "json" | "text" = "json") => {
  const lines: string[] = [];
  const log = createLog({
    level: "debug",
    format,
    fields: { vm_id: "vm-1" },
    write: (line) => void lines.push(line),
  });
  return { log, lines, parsed: (): LogFields[] => lines.map((line) => JSON.parse(line)) };
};

it("correlation is on every line of parents and children, and a line's own fields win", () => {
  const { log, parsed } = collect();
  const child = log.child({ component: "runner" });
  child.correlate({ job_id: "build", run_id: "7" });
  log.info({}, "one");
  child.warn({ job_id: "other" }, "two");
  log.correlate({});
  child.info({}, "three");
  expect(parsed()).toMatchObject([
    { vm_id: "vm-1", job_id: "build", run_id: "7" },
    { component: "runner", job_id: "other", run_id: "7" },
    { component: "runner" },
  ]);
  expect(parsed()[2]).not.toHaveProperty("job_id");
});

it("a field cannot pass for the level, the time or the sentence of a line", () => {
  const { log, parsed } = collect();
  log.error({ level: "debug", msg: "nothing happened", time: 0 }, "It failed.");
  expect(parsed()[0]).toMatchObject({
    level: "error",
    msg: "It failed.",
    field_level: "debug",
    field_time: 0,
  });
});

/** Real pipes: a program whose standard output is read slowly, not at all, or not any more. */
describe("standard output", () => {
  const program = `
    import { createLog } from ${JSON.stringify(fileURLToPath(new URL("./index.ts", import.meta.url)))};
    const log = createLog({ level: "info" });
    let turns = 0;
    const turning = setInterval(() => (turns += 1), 5);
    const say = (text) => process.stderr.write(text + "\\n");
    const filler = "x".repeat(1000);
    for (let n = 0; n < 20_000; n += 1) log.info({ n, filler }, "A line.");
    const [mode] = process.argv.slice(-1);
    setTimeout(async () => {
      say(JSON.stringify({ turns, rss: process.memoryUsage().rss }));
      if (mode === "drain") {
        await log.flush(20_000);
        log.info({ last: true }, "The last line.");
        say(String(await log.flush(5_000)));
      }
      clearInterval(turning);
      process.exit(0);
    }, 300);
  `;
  const run = (mode: string) => {
    const child = spawn(
      process.execPath,
      [
        "--conditions=mig-source",
        ...(process.versions["bun"] === undefined ? ["--input-type=module"] : []),
        "-e",
        program,
        mode,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    const exited = new Promise<number | null>((resolve) => void child.once("exit", resolve));
    const figures = () =>
      waitFor("figures", () => (errors.includes("}") ? JSON.parse(errors.split("\n")[0] ?? "") : undefined));
    return { child, exited, figures, errors: () => errors };
  };

  it("that nobody reads blocks nothing and costs bounded memory", async () => {
    const { exited, figures } = run("exit");
    const { turns, rss } = await figures();
    expect(turns).toBeGreaterThan(10);
    // 20 MB were said; a mebibyte of them may wait.
    expect(rss).toBeLessThan(150 * 1024 * 1024);
    expect(await exited).toBe(0);
  });

  it("that is closed ends nothing", async () => {
    const { child, exited, figures } = run("exit");
    child.stdout.destroy();
    expect((await figures()).turns).toBeGreaterThan(10);
    expect(await exited).toBe(0);
  });

  it("that is read late says how many lines are missing, and loses none that it did not count", async () => {
    const { child, exited, figures, errors } = run("drain");
    await figures();
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    expect(await exited).toBe(0);
    await waitFor("the last line", () => text.includes("The last line."));
    const lines = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const missing = lines.reduce((sum, line) => sum + (line.log_lines_dropped ?? 0), 0);
    const numbered = lines.filter((line) => line.n !== undefined);
    expect(missing).toBeGreaterThan(1_000);
    expect(numbered.length + missing).toBe(20_000);
    expect(lines.at(-1)).toMatchObject({ last: true });
    expect(errors().trimEnd().endsWith("true")).toBe(true);
  });

  it("on a full disk ends nothing", async () => {
    const full = createWriteStream("/dev/full");
    const log = createLog({ level: "info", stream: full });
    for (let n = 0; n < 100; n += 1) log.info({ n }, "A line.");
    expect(await log.flush(5_000)).toBe(true);
    full.destroy();
  });
});
