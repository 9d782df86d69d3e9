import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { gunzipSync } from "node:zlib";
import { hideValue, silentLog, unpackTar, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readSettings } from "../src/boot/settings.ts";
import { type CollectSettings, collectBundle } from "../src/diagnostics/collect-bundle.ts";
import { createCollector } from "../src/diagnostics/collector.ts";
import { hideSecrets } from "../src/diagnostics/hide-secrets.ts";
import { createRecentLines, type RecentLines } from "../src/diagnostics/recent-lines.ts";
import { type Memory, openMemory } from "../src/memory/open-memory.ts";

/** What an agent collects, from real files and the real /proc, when jobs have done their worst to them. */
const most = 1024 * 1024;
let home: string;
let diag: string;
let recent: RecentLines;
let memory: Memory;
let about: CollectSettings;
beforeEach(async () => {
  home = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "diagnostics-"));
  diag = join(home, "runner", "_diag");
  mkdirSync(diag, { recursive: true });
  memory = await openMemory({ directory: join(home, "state"), bootId: "boot-1", log: silentLog });
  recent = createRecentLines();
  const environment = {
    MIGLET_VM_ID: "vm-1",
    MIGLET_POOL_ID: "pool-a",
    MIGLET_CONTROLLER_ENDPOINT: "http://127.0.0.1:9",
    MIGLET_CONTROLLER_AUTH_TYPE: "bearer",
    MIGLET_CONTROLLER_AUTH_TOKEN: canary,
    MIGLET_RUNNER_DIR: join(home, "runner"),
    MIGLET_STATE_DIR: join(home, "state"),
  };
  const { settings, problems } = await readSettings({ flags: { settings: new Map() }, environment });
  if (settings === undefined) throw new Error(JSON.stringify(problems));
  about = {
    settings,
    memory,
    recent,
    status: () => ({ state: "job_running", channel: "poll", token: canary }),
  };
});
afterEach(async () => {
  await memory.close();
  rmSync(home, { recursive: true, force: true });
});

const canary = "canary-Token-0123456789abcdefghij";
const write = (name: string, text: string | Buffer): void => writeFileSync(join(diag, name), text);

async function collect(maxBytes = most, reason?: string) {
  const bundle = await collectBundle(about, "c-1", { maxBytes, ...(reason === undefined ? {} : { reason }) });
  const files = Object.fromEntries(
    unpackTar(gunzipSync(bundle.content)).map(({ name, content }) => [name, content.toString("utf8")]),
  );
  return { ...bundle, texts: files, manifest: JSON.parse(files["manifest.json"] ?? "") };
}

it("has what tells why a VM hangs, and says what is missing", async () => {
  recent.keep('{"msg":"The agent starts."}\n');
  write("Runner_20261121-010000-utc.log", "an older life\n");
  write("Runner_20261121-020000-utc.log", "Listening for Jobs\n");
  write("Runner_20261120-020000-utc.log", "long ago\n");
  write("Worker_20261121-020500-utc.log", "Job message\n");
  write("secret.pem", "not a log\n");
  const { texts, manifest, files, truncated, content, sha256 } = await collect(most, "hangs at night");
  expect(files).toEqual(Object.keys(texts));
  expect(files.toSorted()).toEqual(
    [
      ...[
        "agent/commands.jsonl",
        "agent/log.jsonl",
        "agent/memory.json",
        "agent/settings.json",
        "agent/status.json",
      ],
      ...["machine/facts.json", "machine/memory.txt", "manifest.json"],
      ...["runner/_diag/Runner_20261121-010000-utc.log", "runner/_diag/Runner_20261121-020000-utc.log"],
      ...["runner/_diag/Worker_20261121-020500-utc.log", "runner/processes.tsv"],
    ].toSorted(),
  );
  expect(manifest).toMatchObject({ command_id: "c-1", vm_id: "vm-1", reason: "hangs at night", format: 1 });
  expect(manifest.missing).toEqual([]);
  expect([truncated, manifest.truncated, sha256.length]).toEqual([false, false, 64]);
  expect(texts["agent/log.jsonl"]).toContain("The agent starts.");
  expect(JSON.parse(texts["agent/settings.json"] ?? "")).toMatchObject({ vm_id: "vm-1" });
  expect(texts["runner/processes.tsv"]?.split("\n")[1]).toMatch(new RegExp(`^${process.pid}\t\\d+\t[RSD]\t`));
  expect(JSON.parse(texts["machine/facts.json"] ?? "").disks[0].free_bytes).toBeGreaterThan(0);
  const listed = execFileSync("tar", ["-tzf", "-"], { input: content }).toString().trim().split("\n");
  expect(listed).toEqual(files);
});

it("follows no link out of _diag, waits for no pipe, and reads no file of two names", async () => {
  const secret = join(home, "key");
  writeFileSync(secret, "the key of another\n");
  symlinkSync(secret, join(diag, "Runner_2.log"));
  linkSync(secret, join(diag, "Runner_3.log"));
  execFileSync("mkfifo", [join(diag, "Worker_1.log")]);
  mkdirSync(join(diag, "Worker_2.log"));
  const { texts, manifest } = await collect();
  expect(JSON.stringify(texts)).not.toContain("the key of another");
  expect(Object.keys(texts).filter((name) => name.includes("_diag"))).toEqual([]);
  expect(
    Object.fromEntries(manifest.missing.map(({ name, why }: Record<string, string>) => [name, why])),
  ).toEqual({
    "runner/_diag/Runner_2.log": "it is a symbolic link, which is not followed",
    "runner/_diag/Runner_3.log": "it has more than one name, and may be somebody else's",
    "runner/_diag/Worker_1.log": "it is no plain file",
    "runner/_diag/Worker_2.log": "it is no plain file",
  });
  rmSync(diag, { recursive: true });
  expect((await collect()).manifest.missing).toEqual([{ name: "runner/_diag", why: "it is not there" }]);
  mkdirSync(join(home, "elsewhere"));
  writeFileSync(join(home, "elsewhere", "Runner_1.log"), "the key of another\n");
  symlinkSync(join(home, "elsewhere"), diag);
  const again = await collect();
  expect(JSON.stringify(again.texts)).not.toContain("the key of another");
  expect(again.manifest.missing).toContainEqual({
    name: "runner/_diag",
    why: "it is no directory, or a symbolic link, which is not followed",
  });
});

it("stays within its bound, keeps the newest, and lets others work meanwhile", async () => {
  const lines = Array.from({ length: 12_000 }, (_, n) => `${n} ${randomBytes(24).toString("hex")}\n`).join(
    "",
  );
  for (const name of ["Runner_1.log", "Runner_2.log", "Worker_1.log"]) write(name, lines);
  // Eight gigabytes that take no room on the disk, and one line without an end.
  write("Worker_2.log", "");
  truncateSync(join(diag, "Worker_2.log"), 8 * 1024 ** 3);
  recent.keep(`${"x".repeat(200_000)}\n`);
  let worst = 0;
  let last = performance.now();
  const beat = setInterval(() => {
    const now = performance.now();
    worst = Math.max(worst, now - last);
    last = now;
  }, 5);
  const whole = await collect();
  const small = await collect(16 * 1024);
  clearInterval(beat);
  expect(whole.content.length).toBeLessThanOrEqual(most);
  expect(small.content.length).toBeLessThanOrEqual(16 * 1024);
  for (const { texts, manifest, truncated } of [whole, small]) {
    expect(truncated).toBe(true);
    const runner = texts["runner/_diag/Runner_2.log"] ?? "";
    expect(runner.split("\n").at(-2)).toMatch(/^11999 /);
    expect(runner).toMatch(/^\d+ /);
    const about = manifest.files.find(({ name }: { name: string }) => name === "runner/_diag/Runner_2.log");
    expect(about.bytes + about.dropped_bytes).toBe(lines.length);
    expect(texts["runner/_diag/Worker_2.log"]).toBe("");
  }
  // A heartbeat's pause is seconds; on a shared processor this is far from that.
  expect(worst).toBeLessThan(500);
});

it("has no secret: of the log, the settings, the state, or of what a job has put into _diag", async () => {
  const forget = hideValue(canary);
  const key = ["-----BEGIN RSA PRIVATE KEY-----", ...Array(400).fill(`Q0FOQVJZ${"k".repeat(56)}`)];
  const jit = Buffer.from(JSON.stringify({ ".runner": "x".repeat(400) })).toString("base64");
  recent.keep(`{"msg":"x","why":"${canary}"}\n`);
  write(
    "Worker_1.log",
    [
      `plain ${canary} and ${Buffer.from(canary).toString("base64")}`,
      ...Array(300).fill("a line between, so that the key goes over two blocks"),
      ...key,
      "-----END RSA PRIVATE KEY-----",
      `jit ${jit} Authorization: Bearer abcDEF123456789`,
      `ghs_${"a1".repeat(20)} password=hunter2222 after`,
      `${"y".repeat(9_000)}${canary}`,
    ].join("\n"),
  );
  // Its beginning was lost with what is cut off.
  write(
    "Runner_1.log",
    [...key.slice(1), "-----END RSA PRIVATE KEY-----", "this may be read", ""].join("\n"),
  );
  process.env["DIAGNOSTICS_CANARY"] = canary;
  const { texts } = await collect();
  delete process.env["DIAGNOSTICS_CANARY"];
  forget();
  const all = JSON.stringify(texts);
  for (const secret of [canary, "Q0FOQVJZ", jit.slice(40, 200), "abcDEF123456789", "a1a1a1a1", "hunter2222"])
    expect(all, secret).not.toContain(secret);
  expect(texts["runner/_diag/Worker_1.log"]).toContain("a line between");
  expect(texts["runner/_diag/Worker_1.log"]).toContain("after");
  expect(texts["runner/_diag/Runner_1.log"]).toMatch(/this may be read\n$/);
});

it("a private key that begins behind another's end is followed", async () => {
  const begin = "-----BEGIN PRIVATE KEY-----";
  const end = "-----END PRIVATE KEY-----";
  const text = `${begin}\nAAAA\n${end}\nkept\n${begin}\nBBBB\n`;
  const hidden = await hideSecrets(text);
  expect(hidden).not.toMatch(/AAAA|BBBB/);
  expect(hidden).toContain("kept");
});

it("the last lines are bounded, oldest first, over many lines", () => {
  const lines = createRecentLines(1_000);
  for (let n = 0; n < 5_000; n += 1) lines.keep(`line ${n}\n`);
  expect(lines.text().length).toBeLessThanOrEqual(1_000);
  expect(lines.text()).toMatch(/^line \d+\n(?:.*\n)*line 4999\n$/);
});

it("brings the same bytes until they are stored, and gives up on a refusal, in time, and when the VM ends", async () => {
  const brought: string[] = [];
  const answers: (Error | undefined)[] = [
    new MigError("controller_unreachable", "gone"),
    new MigError("overloaded", "full", { retryAfterMs: 1 }),
    undefined,
  ];
  const make = (bring: (sha256: string, signal: AbortSignal) => Promise<void>, withinMs = 60_000) =>
    createCollector({
      ...about,
      ...{ log: silentLog, retryFirstMs: 1, withinMs },
      bring: (_id, _bytes, sha256, signal) => bring(sha256, signal),
    });
  const wanted = { maxBytes: most };
  const outcome = await make(async (sha256) => {
    brought.push(sha256);
    const error = answers.shift();
    if (error !== undefined) throw error;
  }).collect("c-1", wanted);
  expect(new Set(brought).size).toBe(1);
  expect([brought.length, outcome]).toEqual([
    3,
    {
      success: true,
      result: { bytes: expect.any(Number), sha256: brought[0], files: expect.any(Array), truncated: false },
    },
  ]);
  const refused = await make(() => Promise.reject(new MigError("conflict", "other bytes"))).collect(
    "c-1",
    wanted,
  );
  expect(refused).toEqual({ success: false, message: expect.stringContaining("other bytes") });
  const away = () => Promise.reject(new MigError("controller_unreachable", "gone"));
  expect(await make(away, 300).collect("c-1", wanted)).toMatchObject({ success: false });
  let isBringing = false;
  const hanging = make((_sha256, signal) => {
    isBringing = true;
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(new MigError("controller_unreachable", "given up")));
    });
  });
  const given = hanging.collect("c-1", wanted);
  await waitFor("the upload to begin", () => isBringing);
  hanging.stop();
  expect(await given).toMatchObject({ success: false });
  const nowhere = await createCollector({ ...about, log: silentLog }).collect("c-1", wanted);
  expect(nowhere).toEqual({ success: false, message: expect.stringContaining("controller.endpoint") });
});
