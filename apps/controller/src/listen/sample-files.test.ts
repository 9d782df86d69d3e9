import { mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openSampleFiles } from "./sample-files.ts";

const atMs = new Date(2024, 0, 15, 10, 30, 1, 7).getTime();
let root: string;
let directory: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-sample-"));
  directory = join(root, "data");
});
afterEach(() => rm(root, { recursive: true, force: true }));

test("files have the names of the sample controller and are for the owner only", async () => {
  const files = openSampleFiles(directory, silentLog, { nowMs: () => atMs });
  files.keep("vm-123", { file: "event", type: "vm_started" }, { a: 1 });
  files.keep("vm-123", { file: "grpc-event", type: "job_started" }, {});
  files.keep("vm-123", { file: "heartbeat" }, {});
  files.keep("vm-123", { file: "grpc-heartbeat" }, {});
  files.keep("vm-123", { file: "registration-token-request" }, {});
  files.keep("vm-123", { file: "registration-token-response" }, {});
  await files.close();
  const stamp = "20240115-103001.007";
  expect((await readdir(join(directory, "vm-123"))).sort()).toEqual([
    `event-vm_started-${stamp}.json`,
    `grpc-event-job_started-${stamp}.json`,
    `grpc-heartbeat-${stamp}.json`,
    `heartbeat-20240115-103001-${stamp}.json`,
    `registration-token-request-${stamp}.json`,
    `registration-token-response-${stamp}.json`,
  ]);
  const path = join(directory, "vm-123", `event-vm_started-${stamp}.json`);
  expect(JSON.parse(await readFile(path, "utf8"))).toEqual({ a: 1 });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("messages of one millisecond do not overwrite each other", async () => {
  const files = openSampleFiles(directory, silentLog, { nowMs: () => atMs });
  for (const n of [1, 2, 3]) files.keep("vm-1", { file: "grpc-heartbeat" }, { n });
  await files.close();
  const names = (await readdir(join(directory, "vm-1"))).sort();
  expect(names).toHaveLength(3);
  const seen = await Promise.all(
    names.map(async (name) => JSON.parse(await readFile(join(directory, "vm-1", name), "utf8")).n),
  );
  expect(seen.sort()).toEqual([1, 2, 3]);
});

test.each(["..", "../x", "a/b", "/etc", ".", "", ".mig", "a\0b", "a..b"])(
  "the vm_id %j names no directory",
  async (vmId) => {
    const files = openSampleFiles(directory, silentLog);
    expect(() => files.keep(vmId, { file: "heartbeat" }, {})).toThrow("cannot name a directory");
    await files.close();
    expect(await readdir(root)).toEqual([]);
  },
);

test("an event type that is no word never becomes a path", async () => {
  const files = openSampleFiles(directory, silentLog, { nowMs: () => atMs });
  files.keep("vm-1", { file: "event", type: "../../../x" }, {});
  await files.close();
  expect(await readdir(join(directory, "vm-1"))).toEqual(["event-unreadable-20240115-103001.007.json"]);
});

test("a file that is a link already is not written through", async () => {
  const files = openSampleFiles(root, silentLog, { nowMs: () => atMs });
  files.keep("vm-1", { file: "grpc-heartbeat" }, {});
  await files.close();
  const target = join(root, "target");
  await writeFile(target, "mine");
  await rm(join(root, "vm-1", "grpc-heartbeat-20240115-103001.007.json"));
  await symlink(target, join(root, "vm-1", "grpc-heartbeat-20240115-103001.007.json"));
  const again = openSampleFiles(root, silentLog, { nowMs: () => atMs });
  again.keep("vm-1", { file: "grpc-heartbeat" }, {});
  await again.close();
  expect(await readFile(target, "utf8")).toBe("mine");
});

test("when the disk cannot keep up, messages are refused as overloaded", async () => {
  const files = openSampleFiles(directory, silentLog, { waitingMax: 10 });
  const keepMany = (): void => {
    for (let i = 0; i < 12; i += 1) files.keep("vm-1", { file: "event", type: `e${i}` }, {});
  };
  expect(keepMany).toThrow("wait for the disk");
  await files.close();
});

test("what waits for the disk is bounded in bytes", async () => {
  const files = openSampleFiles(directory, silentLog, { waitingBytesMax: 1_000 });
  files.keep("vm-1", { file: "heartbeat" }, { a: "x".repeat(600) });
  expect(() => files.keep("vm-1", { file: "heartbeat" }, { a: "x".repeat(600) })).toThrow("too many");
  await waitFor("the first to be written", () => readdir(join(directory, "vm-1")).catch(() => undefined));
  await waitFor("room for another", () => {
    try {
      files.keep("vm-1", { file: "heartbeat" }, { a: "x".repeat(600) });
      return true;
    } catch {
      return false;
    }
  });
  await files.close();
});
