import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chown, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { buildEnvironment, type RunnerEnvironment, spawnUser } from "../environment.ts";
import { type InstalledRunner, inspectRunner, isConfigured } from "../installed-runner.ts";
import { download } from "./download.ts";
import { isInhabited, listPlaces, makePlace, markPlace, removeOld } from "./places.ts";
import { unpack } from "./unpack.ts";

export interface WantedRunner {
  version?: string | undefined;
  /** Of the archive, for each platform or for any. */
  sha256?: string | Readonly<Record<string, string>> | undefined;
  downloadUrl?: string | undefined;
}

export interface InstallSettings {
  /** Where the image has a runner, or not. */
  imageDir: string;
  installRoot: string;
  /** Only the agent's; the archive lies there while it is needed. */
  privateDir: string;
  downloadUrl: string;
  timeoutMs: number;
  proxy?: string | undefined;
  caPath?: string | undefined;
  environment: RunnerEnvironment;
  signal: AbortSignal;
  log: Log;
}

export interface Installation extends InstalledRunner {
  /** `kept`: downloaded earlier and never used. */
  source: "image" | "kept" | "downloaded";
  version?: string;
}

/**
 * A runner that can be used: the image's, when it is there and of the version that is wanted; else one that was
 * downloaded before and has had no job; else a fresh download. Nothing that lives is ever touched: the predecessor
 * downloaded at each start into one directory and so removed runners under their jobs (go-agent-wire A12, A13).
 */
export async function installRunner(wanted: WantedRunner, settings: InstallSettings): Promise<Installation> {
  const { imageDir, installRoot, log, signal } = settings;
  const inImage = await lookAtImage(wanted.version, settings);
  if (inImage.runner !== undefined) return inImage.runner;
  const sha256 = checksumOf(wanted);
  const { version } = wanted;
  if (version === undefined || sha256 === undefined) {
    const missing =
      version === undefined ? "runner.version and runner.sha256" : `runner.sha256 for ${platform()}`;
    throw new MigError(
      "runner_not_installed",
      `${inImage.why} To have it downloaded instead, set ${missing}, or the pool's runner at the controller.`,
    );
  }
  for (const place of await listPlaces(installRoot)) {
    if (place.version !== version || place.sha256 !== sha256) continue;
    // A registration that was begun and not finished left its files there; a fresh one costs less than to be sure.
    if ((await isConfigured(place.dir)) || (await isInhabited(place.dir))) continue;
    return { ...(await inspectRunner(place.dir, false)), source: "kept", version };
  }
  log.info({ version, image_dir: imageDir, why: inImage.why }, "The runner is downloaded.");
  const dir = await downloadRunner(version, sha256, wanted, settings);
  removeOld(installRoot, new Set([dir, imageDir])).then(
    (removed) => removed.length > 0 && log.info({ removed }, "Runners that nobody uses were removed."),
    (error: unknown) => log.warn({ error }, "Runners that nobody uses could not be removed."),
  );
  if (signal.aborted)
    throw new MigError("runner_install_failed", "The installation was given up because the agent stops.");
  return { ...(await inspectRunner(dir, false)), source: "downloaded", version };
}

async function lookAtImage(
  version: string | undefined,
  { imageDir, environment }: InstallSettings,
): Promise<{ runner?: Installation; why: string }> {
  let installed: InstalledRunner;
  try {
    installed = await inspectRunner(imageDir, false);
  } catch (error) {
    if (!(error instanceof MigError)) throw error;
    return { why: error.message };
  }
  if (version === undefined) return { runner: { ...installed, source: "image" }, why: "" };
  const found = await versionOf(installed, environment);
  if (found === version) return { runner: { ...installed, source: "image", version }, why: "" };
  return { why: `${imageDir} has version ${found ?? "unknown"} and ${version} is wanted.` };
}

/** It prints the version and nothing else (runner-contract §10); undefined when it cannot be started. */
async function versionOf(
  { dir, listener }: InstalledRunner,
  environment: RunnerEnvironment,
): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(listener, ["--version"], {
      cwd: dir,
      env: buildEnvironment(environment),
      timeout: 20_000,
      ...spawnUser(environment),
    });
    return /^\d+\.\d+\.\d+$/m.exec(stdout)?.[0];
  } catch {
    return undefined;
  }
}

async function downloadRunner(
  version: string,
  sha256: string,
  wanted: WantedRunner,
  settings: InstallSettings,
): Promise<string> {
  const { installRoot, privateDir, environment, signal, log } = settings;
  const template = wanted.downloadUrl ?? settings.downloadUrl;
  const href = template.replaceAll("{version}", version).replaceAll("{platform}", platform());
  if (!URL.canParse(href))
    throw new MigError("runner_not_installed", `${href} is no URL: correct runner.download_url.`);
  const url = new URL(href);
  const archive = join(privateDir, `runner-${randomUUID()}.tar.gz`);
  const ca = settings.caPath === undefined ? undefined : await readFile(settings.caPath, "utf8");
  let dir: string | undefined;
  try {
    await download({
      url,
      sha256,
      path: archive,
      timeoutMs: settings.timeoutMs,
      proxy: proxyFor(url, settings),
      ca,
      signal,
      log,
    });
    dir = await makePlace(installRoot, ".partial-");
    const { user } = environment;
    if (user !== undefined) await chown(dir, user.uid, user.gid);
    await unpack(archive, dir, user, signal);
    await inspectRunner(dir, false);
    const whole = await makePlace(installRoot, `${version}-`);
    // Over the empty directory that has just reserved the name; only then it counts.
    await rename(dir, whole);
    await markPlace({ dir: whole, version, sha256 });
    return whole;
  } catch (error) {
    if (dir !== undefined) await rm(dir, { recursive: true, force: true });
    throw error;
  } finally {
    await rm(archive, { force: true });
  }
}

/** As the archives of actions/runner are named (runner-contract §10). */
export function platform(): string {
  const arch = process.arch === "arm64" || process.arch === "arm" ? process.arch : "x64";
  return `${process.platform === "darwin" ? "osx" : "linux"}-${arch}`;
}

function checksumOf({ sha256 }: WantedRunner): string | undefined {
  return typeof sha256 === "string" ? sha256 : sha256?.[platform()];
}

/** The setting, else what the machine says for this kind of address, unless it says that this one is near. */
export function proxyFor(
  url: URL,
  { proxy, environment: { host } }: Pick<InstallSettings, "proxy" | "environment">,
): URL | undefined {
  const named = (name: string): string | undefined => host[name] ?? host[name.toUpperCase()];
  const given =
    proxy ??
    (isNear(url.hostname, named("no_proxy"))
      ? undefined
      : named(url.protocol === "https:" ? "https_proxy" : "http_proxy"));
  if (given === undefined || given === "") return undefined;
  const text = /^[a-z]+:\/\//i.test(given) ? given : `http://${given}`;
  if (!URL.canParse(text) || new URL(text).protocol !== "http:")
    throw new MigError(
      "settings_invalid",
      "The proxy for the download is no http:// address: see runner.download_proxy.",
    );
  return new URL(text);
}

function isNear(hostname: string, list: string | undefined): boolean {
  return (list ?? "")
    .split(",")
    .map((name) =>
      name
        .trim()
        .toLowerCase()
        .replace(/^\*?\./, ""),
    )
    .some((name) => name === "*" || (name !== "" && (hostname === name || hostname.endsWith(`.${name}`))));
}
