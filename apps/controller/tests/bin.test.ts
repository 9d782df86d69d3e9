import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, expect, test } from "vitest";

const bin = fileURLToPath(new URL("../bin/mig-controller.js", import.meta.url));
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "mig-bin-"));
});
afterAll(async () => {
  left?.kill("SIGKILL");
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
});
let left: ReturnType<typeof spawn> | undefined;

function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [bin, ...argv], { env: {} }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr }),
    );
  });
}

test("--help, --version and config answer on stdout and exit 0", async () => {
  expect(await run("--help")).toMatchObject({ code: 0, stdout: expect.stringContaining("MIG_LISTEN") });
  expect(await run("--version")).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^mig-controller \d/),
  });
  const { stdout } = await run("config", "--sample", "--json");
  expect(JSON.parse(stdout).settings).toContainEqual({ name: "sample", value: "true", source: "--sample" });
});

test("wrong settings exit 2 and are told on stderr", async () => {
  expect(await run("--sampel")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("did you mean --sample?"),
  });
});

test("it says when it is ready and where, and stops in order on SIGTERM", async () => {
  const flags = ["--sample", "--grpc-listen", "off", "--data-dir", directory, "--listen", "127.0.0.1:0"];
  const program = spawn(process.execPath, [bin, ...flags, "--log-format", "json"], { env: {} });
  left = program;
  const code = new Promise((resolve) => program.once("exit", resolve));
  let said = "";
  program.stdout.on("data", (chunk) => {
    said += chunk;
  });
  const ready = await waitFor("the controller to be ready", () => /"http":"127.0.0.1:(\d+)"/.exec(said), {
    timeoutMs: 30_000,
  });
  expect((await fetch(`http://127.0.0.1:${ready[1]}/health`)).status).toBe(200);
  expect(said).toContain("SAMPLE MODE: no authentication");
  program.kill("SIGTERM");
  expect(await code).toBe(0);
});
