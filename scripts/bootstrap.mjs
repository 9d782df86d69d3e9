// `npm start` and `npm test` on a fresh clone, with only Node >= 20 and npm on the machine: installs when
// node_modules is missing or older than the lock file, then hands over to the Node 24 that the install brought.
// Plain JavaScript, because it runs before anything is installed.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = (name) => join(root, "node_modules", ".bin", name);
const [task, ...rest] = process.argv.slice(2);

const tasks = {
  start: () => {
    build();
    return run(bin("node"), [join(root, "apps/cli/bin/migctl.js"), "dev", ...rest]);
  },
  test: async () => {
    build();
    const report = join(mkdtempSync(join(tmpdir(), "mig-test-")), "report.json");
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const checks = [
      ["types of the tests", "tsc", ["-p", "tests/tsconfig.json"]],
      ["format and lint", "biome", ["check", "--error-on-warnings", "."]],
      // The agent is shipped on Bun; whoever asks for some tests gets them on Node only.
      ...(rest.length === 0
        ? [["tests of the agent on Bun", "node", ["scripts/test-on-bun.mjs", "--short"]]]
        : []),
      ["tests", "vitest", ["run", ...reporters, ...rest]],
    ];
    for (const [what, program, args] of checks) {
      const code = await run(bin(program), args);
      if (what === "tests") summarize(report);
      if (code !== 0) {
        console.error(`npm test: ${what} failed (exit code ${code})`);
        return code;
      }
    }
    return 0;
  },
};

if (!(task in tasks)) {
  console.error(`usage: node scripts/bootstrap.mjs ${Object.keys(tasks).join("|")} [arguments]`);
  process.exitCode = 2;
} else {
  install();
  process.exitCode = await tasks[task]();
}

function install() {
  const mark = join(root, "node_modules", ".package-lock.json");
  const lock = join(root, "package-lock.json");
  if (existsSync(mark) && statSync(mark).mtimeMs >= statSync(lock).mtimeMs && existsSync(bin("node"))) return;
  console.error("installing (about 20 seconds the first time) …");
  // Node 20 may install: what npm warns of is meant for Node 24, which runs everything afterwards.
  const npm = process.env.npm_execpath;
  const [program, args] = npm === undefined ? ["npm", []] : [process.execPath, [npm]];
  must(
    spawnSync(program, [...args, "ci", "--loglevel=error", "--no-audit", "--no-fund"], {
      cwd: root,
      stdio: "inherit",
    }),
    "npm ci",
  );
  if (!existsSync(bin("node"))) {
    console.error(
      "this platform has no Node 24 in the optional dependencies; install Node 24 and npm ci again, see CONTRIBUTING.md",
    );
    process.exit(1);
  }
}

function build() {
  must(spawnSync(bin("tsc"), ["-b"], { cwd: root, stdio: "inherit" }), "the build");
}

/** One line that people and CI can read, and what was left out by name. */
function summarize(path) {
  if (!existsSync(path)) return;
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = JSON.parse(
    readFileSync(path, "utf8"),
  );
  rmSync(dirname(path), { recursive: true, force: true });
  const skipped = testResults.flatMap(({ assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "pending" || status === "skipped")
      .map((test) => test.ancestorTitles[0] ?? test.title),
  );
  for (const name of new Set(skipped)) {
    const hint = /PostgreSQL server/.test(name)
      ? "install the Debian package postgresql, or set MIG_TEST_DATABASE_URL"
      : "see CONTRIBUTING.md";
    console.log(`skipped: ${name} (${hint})`);
  }
  console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`);
}

function must(result, what) {
  if (result.status === 0) return;
  console.error(`${what} failed${result.error === undefined ? "" : `: ${result.error.message}`}`);
  process.exit(result.status ?? 1);
}

/** Runs a program on the terminal's own streams; Ctrl-C reaches it by itself, a signal to us is passed on. */
function run(program, args) {
  return new Promise((resolve) => {
    const path = `${join(root, "node_modules", ".bin")}:${process.env.PATH ?? ""}`;
    const child = spawn(program, args, { cwd: root, stdio: "inherit", env: { ...process.env, PATH: path } });
    // npm runs us through a shell that dies of SIGTERM without passing it on: a new parent means that we should end.
    const parent = process.ppid;
    const watch = setInterval(() => process.ppid !== parent && child.kill("SIGTERM"), 500);
    const pass = (signal) => () => child.kill(signal);
    process.on("SIGTERM", pass("SIGTERM"));
    // The terminal sends SIGINT to the whole group; staying alive lets the child end in its own time.
    process.on("SIGINT", () => {});
    child.on("error", (error) => {
      console.error(`${program} does not start: ${error.message}`);
      resolve(1);
    });
    child.on("exit", (code, signal) => {
      clearInterval(watch);
      resolve(code ?? (signal === "SIGINT" ? 130 : 143));
    });
  });
}
