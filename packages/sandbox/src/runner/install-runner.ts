import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { writeStandIn } from "./installation.ts";
import { nodePath } from "./node-path.ts";
import type { JobOverrides, ScenarioName } from "./scenarios.ts";
import { launcherScript, scriptFiles } from "./scripts.ts";

export interface RunnerOptions {
  /** Written to FAKE_SCENARIO.json: rules start-up, and jobs that name no scenario themselves. */
  readonly scenario?: ScenarioName;
  readonly overrides?: JobOverrides;
  /** Every wait of the real programs is multiplied by this. Default 1; tests use about 0.02. */
  readonly timeFactor?: number;
  readonly version?: string;
}

export interface InstalledRunner {
  readonly root: string;
  readonly listenerPath: string;
  readonly configPath: string;
  readonly runPath: string;
  /** Where FAKE_SCENARIO.json is; write or delete it to change the scenario of the next start. */
  readonly scenarioPath: string;
}

/** Lays out a stand-in runner in `dir` as the tarball of actions/runner would, not yet configured. */
export async function installRunner(dir: string, options: RunnerOptions = {}): Promise<InstalledRunner> {
  const root = resolve(dir);
  const { timeFactor = 1, version = "2.336.0" } = options;
  const scenarioPath = join(root, "FAKE_SCENARIO.json");
  const programs = { "Runner.Listener": "listener", "Runner.Worker": "worker" };
  // Sources under Vitest, compiled files otherwise: whichever of the two this module itself is.
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  // Two or three of these processes start per job. From sources each needs 170 ms, with the cache 60 (measured).
  const cache = fileURLToPath(new URL("../../dist/.compile-cache", import.meta.url));
  const programUrl = (folder: string) => new URL(`./${folder}/main${extension}`, import.meta.url).href;
  const files = [
    ...scriptFiles(timeFactor),
    ...Object.entries(programs).map(([name, folder]) => ({
      path: `bin/${name}`,
      text: launcherScript(nodePath, programUrl(folder), cache),
    })),
  ];
  // The programs have no file extension, as the real ones; below a package.json that says "module" Node would read
  // them as modules.
  files.push({ path: "bin/package.json", text: '{ "type": "commonjs" }\n' });
  for (const { path, text } of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
    await chmod(join(root, path), 0o755);
  }
  for (const node of ["node20", "node24"]) {
    await mkdir(join(root, "externals", node, "bin"), { recursive: true });
    await rm(join(root, "externals", node, "bin", "node"), { force: true });
    await symlink(nodePath, join(root, "externals", node, "bin", "node"));
  }
  writeStandIn(join(root, "bin"), { version, timeFactor });
  if (options.scenario !== undefined || options.overrides !== undefined) {
    const { scenario = "ok", overrides = {} } = options;
    await writeFile(scenarioPath, JSON.stringify({ scenario, overrides }));
  } else await rm(scenarioPath, { force: true });
  return {
    root,
    listenerPath: join(root, "bin", "Runner.Listener"),
    configPath: join(root, "config.sh"),
    runPath: join(root, "run.sh"),
    scenarioPath,
  };
}
