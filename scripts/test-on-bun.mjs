// `npm run test:bun`: the agent's tests on Bun, because Bun is what the shipped executable is made of. First its own
// suites and those of the packages that it is built from, inside Bun; then the tests that start a whole system, on
// Node, with the packaged executable as their agent. Ends in one line of counts, and with 1 when anything failed.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const arch = process.arch === "arm64" ? "aarch64" : process.arch;
const bun = join(root, `node_modules/@oven/bun-${process.platform}-${arch}/bin/bun`);
const vitest = join(root, "node_modules/vitest/vitest.mjs");
const scratch = mkdtempSync(join(tmpdir(), "mig-bun-tests-"));
const isShort = process.argv.includes("--short");

const inside = ["apps/miglet", "packages/kit", "packages/protocol", "packages/lifecycle"];
// What takes longest is left to the long form: whole agents, each in many scenarios, and what starts Bun by itself
// (link-runtimes). In short the runtime's own parts are shown (sockets, files, processes, memory), one by one.
const leftOut = isShort
  ? ["runner-scenarios", "miglet.test", "boot-process", "install.test", "runner-script", "link-runtimes"].map(
      (name) => `--exclude=**/${name}*`,
    )
  : [];
// In short the whole system with the executable is what tests/packaged.test.ts makes of it.
const around = isShort
  ? []
  : [
      "tests/orders.test.ts",
      "tests/jobs.test.ts",
      "tests/robustness/kill-agent.test.ts",
      "tests/conformance",
    ];

process.exitCode = await main().finally(() => rmSync(scratch, { recursive: true, force: true }));

async function main() {
  if (!existsSync(bun)) {
    console.error(
      `Bun is not installed for ${process.platform} ${process.arch}: run npm ci; it is an optional dependency`,
    );
    return 1;
  }
  const total = { passed: 0, failed: 0, skipped: 0 };
  let isBroken = false;
  const count = async (name, program, args, env = {}) => {
    const report = join(scratch, `${name}.json`);
    const code = await run(
      program,
      [...args, "--reporter=dot", "--reporter=json", `--outputFile.json=${report}`],
      env,
    );
    if (!existsSync(report)) isBroken = true;
    else {
      const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(report, "utf8"));
      total.passed += numPassedTests;
      total.failed += numFailedTests;
      total.skipped += numPendingTests;
      if (code !== 0 && numFailedTests === 0) isBroken = true;
    }
  };
  // Vitest's pool of processes needs a channel that Bun's child_process has not; its pool of threads does not.
  await count("inside", bun, ["--bun", vitest, "run", "--pool", "threads", ...leftOut, ...inside]);
  const agent = join(scratch, "miglet-linux-x64");
  if (around.length > 0 && process.platform === "linux" && process.arch === "x64") {
    const packed = await run(process.execPath, [
      join(root, "apps/miglet/scripts/package.mjs"),
      "--target",
      "linux-x64",
      "--out",
      scratch,
    ]);
    if (packed !== 0) return packed;
    await count("around", process.execPath, [vitest, "run", ...around], { MIG_TEST_AGENT: agent });
  }
  console.log(`bun: ${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed > 0 || isBroken ? 1 : 0;
}

function run(program, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
    child.on("error", (error) => {
      console.error(`${program} does not start: ${error.message}`);
      resolve(1);
    });
    child.on("exit", (code) => resolve(code ?? 1));
  });
}
