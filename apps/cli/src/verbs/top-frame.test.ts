import { expect, it } from "vitest";
import { arrange, screenFrame, summaryOf } from "./top-frame.ts";

const vm = (id: string, more: object = {}) => ({
  vm_id: id,
  state: "idle",
  reachability: "online",
  created_at: new Date().toISOString(),
  current_job: null,
  problem: null,
  ...more,
});
const vms = [
  vm("b"),
  vm("a"),
  vm("busy", { state: "running", current_job: { job_id: "build-and-test-everything-there-is-to-test" } }),
  vm(`long-${"x".repeat(60)}`, { problem: { code: "x", message: "the disk is full, \u001b[31mand red" } }),
  vm("gone", { state: "lost" }),
];

it("those that need a look come first, those that have ended only when asked for", () => {
  const ids = (showsEnded: boolean) => arrange(vms, showsEnded).map(({ vm_id }) => vm_id);
  expect(ids(false)).toEqual([`long-${"x".repeat(60)}`, "busy", "a", "b"]);
  expect(ids(true)).toContain("gone");
  expect(summaryOf(arrange(vms, false))).toBe("4 VMs: 3 idle, 1 running");
});

it.each([20, 40, 80, 120])("at %i columns no line is wider, and nothing steers the terminal", (width) => {
  const frame = screenFrame(arrange(vms, false), width, 24);
  for (const line of frame) expect(line.length).toBeLessThanOrEqual(width);
  const text = frame.join("\n");
  expect(text).not.toContain("\u001b");
  for (const word of ["busy", "running", "build"]) expect(text).toContain(word);
  if (width >= 40) expect(text).toContain("the disk is full");
});

it("counts what the screen has no room for", () => {
  const many = Array.from({ length: 50 }, (_, n) => vm(`vm-${n}`));
  const frame = screenFrame(many, 40, 10);
  expect(frame).toHaveLength(10);
  expect(frame.at(-1)).toBe("43 more; q quits");
});
