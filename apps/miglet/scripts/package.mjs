// `npm run package -w apps/miglet`: the agent as one executable for each platform, compiled by Bun, that needs no
// Node, no Bun and no node_modules on the VM. Beside them SHA256SUMS, which the install script checks. The same
// sources and the same Bun give the same bytes: `--check` builds twice and compares.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const app = dirname(dirname(fileURLToPath(import.meta.url)));
const root = dirname(dirname(app));

/** Bun's package for each platform that we ship, and Bun's own name of the platform. */
const platforms = {
  "linux-x64": { bun: "@oven/bun-linux-x64", target: "bun-linux-x64" },
  "linux-arm64": { bun: "@oven/bun-linux-aarch64", target: "bun-linux-arm64" },
};

const help = `Usage: npm run package -w apps/miglet -- [--target linux-x64|linux-arm64] [--out DIR] [--check]

  --target   one platform instead of all
  --out      where to put the executables (default apps/miglet/dist/package)
  --check    build everything twice and fail when the bytes differ
`;

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  console.error(`package: ${error.message}`);
  process.exitCode = 1;
}

function main(argv) {
  const { values } = parseArgs({
    args: argv,
    options: {
      target: { type: "string" },
      out: { type: "string" },
      check: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const wanted = values.target === undefined ? Object.keys(platforms) : [values.target];
  const unknown = wanted.find((name) => !(name in platforms));
  if (unknown !== undefined)
    throw new Error(`there is no target ${unknown}; there are ${Object.keys(platforms).join(" and ")}`);
  const out = resolve(values.out ?? join(app, "dist/package"));
  mkdirSync(out, { recursive: true });
  const compiler = bunOfThisMachine();
  const sums = [];
  for (const name of wanted) {
    const path = join(out, `miglet-${name}`);
    compile(compiler, name, path);
    const sum = sha256(path);
    if (values.check) checkAgain(compiler, name, sum);
    sums.push(`${sum}  miglet-${name}`);
    console.log(`${path}  ${(readFileSync(path).length / 1024 / 1024).toFixed(0)} MiB  ${sum}`);
  }
  writeFileSync(join(out, "SHA256SUMS"), `${sums.join("\n")}\n`);
  return 0;
}

/** From the sources: what tsc has built, or not yet built, does not matter. */
function compile(compiler, name, outfile) {
  const { bun, target } = platforms[name];
  const args = [
    ...["build", join(app, "src/main.ts"), "--compile", `--target=${target}`, `--outfile=${outfile}`],
    `--compile-executable-path=${bunFor(bun)}`,
    ...["--minify", "--conditions=mig-source"],
    // A job, or whoever owns the working directory, must not be able to tell the agent anything.
    ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
    // An agent that mostly waits needs little optimized code: 59 MB resident without this, 54 with it.
    ...["--compile-jit-policy=100", "--compile-exec-argv=--smol"],
  ];
  // The root, because paths of modules are part of the bytes; no setting of the machine may change them.
  const made = spawnSync(compiler, args, {
    cwd: root,
    encoding: "utf8",
    env: { PATH: process.env.PATH, HOME: tmpdir() },
  });
  if (made.status !== 0)
    throw new Error(`Bun could not compile miglet-${name}:\n${made.stdout}${made.stderr}`);
}

function checkAgain(compiler, name, sum) {
  const dir = mkdtempSync(join(tmpdir(), "mig-package-"));
  try {
    const path = join(dir, `miglet-${name}`);
    compile(compiler, name, path);
    if (sha256(path) !== sum) throw new Error(`miglet-${name} is another file each time it is built`);
    console.log(`miglet-${name} is the same file each time it is built`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function sha256(path) {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function bunOfThisMachine() {
  const arch = process.arch === "arm64" ? "aarch64" : process.arch;
  const path = installed(`@oven/bun-${process.platform}-${arch}`);
  if (path === undefined)
    throw new Error(
      `Bun is not installed for ${process.platform} ${process.arch}: run npm ci; it is an optional dependency`,
    );
  return path;
}

function installed(name) {
  try {
    const path = join(
      dirname(createRequire(join(root, "package.json")).resolve(`${name}/package.json`)),
      "bin/bun",
    );
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** npm installs no package of another platform: that one is fetched once, and is what the lock file says. */
function bunFor(name) {
  const local = installed(name);
  if (local !== undefined) return local;
  const { version, integrity } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages[
    `node_modules/${name}`
  ];
  const cache = join(tmpdir(), `mig-bun-${version}-${name.replaceAll(/[^a-z0-9]+/g, "-")}`);
  const path = join(cache, "package/bin/bun");
  if (existsSync(path)) return path;
  console.error(`fetching ${name}@${version} (once) …`);
  const dir = mkdtempSync(join(tmpdir(), "mig-bun-"));
  try {
    const packed = execFileSync(
      "npm",
      ["pack", `${name}@${version}`, "--silent", "--pack-destination", dir],
      {
        cwd: dir,
        encoding: "utf8",
      },
    );
    const archive = join(dir, packed.trim().split("\n").at(-1));
    const found = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
    if (found !== integrity) throw new Error(`${name}@${version} is not what package-lock.json says`);
    mkdirSync(cache, { recursive: true });
    execFileSync("tar", ["-xzf", archive, "-C", cache, "package/bin/bun"]);
    return path;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
