import fc from "fast-check";
import { expect, it } from "vitest";
import type { ListedRunner } from "../src/github/list-runners.ts";
import {
  isRemovable,
  judgeRunners,
  type KnownGrant,
  type KnownVm,
  type Sight,
  stemIn,
  stemOf,
} from "../src/runner/inventory-judge.ts";
import { grantStates } from "../src/store/grant-rows.ts";

const grant = (more: Partial<KnownGrant> = {}): KnownGrant => ({
  id: "0199aaaa-0000-7000-8000-0000cafe0001",
  vmId: "vm-1",
  incarnation: "boot-1",
  poolId: "p",
  orgId: "acme",
  state: "used",
  runnerName: "vm-1-cafe0001-1",
  runnerId: 7,
  wantedAtMs: 1_000,
  settledAtMs: 2_000,
  ...more,
});
const vm = (more: Partial<KnownVm> = {}): KnownVm => ({
  vmId: "vm-1",
  incarnation: "boot-1",
  poolId: "p",
  orgId: "acme",
  state: "idle",
  isOnline: true,
  runnerName: "vm-1-cafe0001-1",
  ...more,
});
const runner = (more: Partial<ListedRunner> = {}): ListedRunner => ({
  id: 7,
  name: "vm-1-cafe0001-1",
  isOnline: true,
  isBusy: false,
  ...more,
});
const sight = (more: Partial<Sight> = {}): Sight => ({
  nowMs: 1_000_000,
  askedAtMs: 999_000,
  isComplete: true,
  runners: [runner()],
  grants: [grant()],
  vms: [vm()],
  before: [],
  offlineAfterMs: 600_000,
  ...more,
});
const verdictOf = (more: Partial<Sight>): string =>
  judgeRunners(sight(more))
    .map(({ verdict }) => verdict)
    .join(" ");

const cases: [name: string, more: Partial<Sight>, verdict: string][] = [
  ["a runner of a living VM", {}, "ours"],
  ["one that GitHub does not hear yet", { runners: [runner({ isOnline: false })] }, "ours"],
  [
    "one that GitHub has not heard for long",
    {
      runners: [runner({ isOnline: false })],
      before: [{ entry: "7", verdict: "ours", verdictAtMs: 1, offlineAtMs: 300_000 }],
    },
    "offline",
  ],
  ["of a VM that ended", { vms: [vm({ state: "terminated" })] }, "leftover"],
  ["of a VM that is lost", { vms: [vm({ state: "lost" })] }, "leftover"],
  ["of an earlier boot", { vms: [vm({ incarnation: "boot-2" })] }, "leftover"],
  ["of a grant that is void", { grants: [grant({ state: "void" })] }, "leftover"],
  ["of a VM that nobody knows any more", { vms: [] }, "leftover"],
  [
    "of an earlier try",
    {
      grants: [grant({ runnerName: "vm-1-cafe0001-2", runnerId: 8 })],
      vms: [vm({ runnerName: "vm-1-cafe0001-2" })],
    },
    "leftover missing",
  ],
  ["of a try that is under way", { grants: [grant({ state: "making", runnerId: null })] }, "ours"],
  [
    "that the VM has not started yet",
    { grants: [grant({ state: "made" })], vms: [vm({ state: "initializing" })] },
    "ours",
  ],
  ["of our name, another's id", { runners: [runner({ id: 9 })] }, "ghost"],
  [
    "called as ours, of no grant",
    { runners: [runner({ name: "vm-9-deadbeef-1" })], grants: [], vms: [] },
    "ghost",
  ],
  ["of somebody else", { runners: [runner({ name: "build-box" })], grants: [], vms: [] }, "foreign"],
  [
    "that only its VM calls its own",
    { runners: [runner({ name: "old-agent" })], grants: [], vms: [vm({ runnerName: "old-agent" })] },
    "ours",
  ],
  [
    "that a VM which ended called its own",
    {
      runners: [runner({ name: "old-agent" })],
      grants: [],
      vms: [vm({ runnerName: "old-agent", state: "lost" })],
    },
    "foreign",
  ],
  ["that GitHub does not know", { runners: [] }, "missing"],
  ["that a list which is not whole does not show", { runners: [], isComplete: false }, ""],
  [
    "that has registered after the list was made",
    { runners: [], grants: [grant({ settledAtMs: 999_500 })] },
    "",
  ],
  ["of a silent VM", { runners: [], vms: [vm({ isOnline: false })] }, ""],
  ["of a VM that drains", { runners: [], vms: [vm({ state: "draining" })] }, ""],
  [
    "of a VM that registers again",
    {
      runners: [],
      grants: [grant(), grant({ id: "x-0000cafe0002", state: "made", runnerName: "vm-1-cafe0002-1" })],
    },
    "",
  ],
];
it.each(cases)("%s", (_name, more, verdict) => {
  expect(verdictOf(more)).toBe(verdict);
});

it("of two that a VM has registered the older one is the duplicate, and goes only when nobody hears it", () => {
  const newer = grant({
    id: "0199aaaa-0000-7000-8000-0000cafe0002",
    runnerName: "vm-1-cafe0002-1",
    runnerId: 8,
    settledAtMs: 3_000,
  });
  for (const [isOnline, isBusy, goes] of [
    [false, false, true],
    [true, false, false],
    [false, true, false],
  ] as const) {
    const [old, latest] = judgeRunners(
      sight({
        runners: [runner({ isOnline, isBusy }), runner({ id: 8, name: "vm-1-cafe0002-1" })],
        grants: [grant(), newer],
        vms: [vm({ runnerName: "vm-1-cafe0002-1" })],
      }),
    );
    expect([old?.verdict, latest?.verdict]).toEqual(["duplicate", "ours"]);
    expect(old !== undefined && isRemovable(old)).toBe(goes);
  }
});

it("a verdict keeps its time as long as it stays the same", () => {
  const before = [{ entry: "vm:vm-1", verdict: "missing" as const, verdictAtMs: 5_000, offlineAtMs: null }];
  expect(judgeRunners(sight({ runners: [], before }))[0]?.verdictAtMs).toBe(5_000);
  const other = [{ entry: "7", verdict: "leftover" as const, verdictAtMs: 5_000, offlineAtMs: null }];
  expect(judgeRunners(sight({ before: other }))[0]?.verdictAtMs).toBe(1_000_000);
});

/** A small world, in which everything collides with everything. */
const names = fc.constantFrom("vm-1", "vm-2", "v".repeat(60));
const tails = fc.constantFrom("cafe0001", "cafe0002", "deadbeef");
const states = [
  "initializing",
  "idle",
  "running",
  "draining",
  "shutting_down",
  "error",
  "terminated",
  "lost",
] as const;
const grants = fc.uniqueArray(
  fc
    .record({
      vmId: names,
      tail: tails,
      incarnation: fc.constantFrom("boot-1", "boot-2"),
      state: fc.constantFrom(...grantStates),
      tries: fc.integer({ min: 1, max: 3 }),
      runnerId: fc.option(fc.integer({ min: 1, max: 6 })),
      settledAtMs: fc.option(fc.integer({ min: 0, max: 3_000_000 })),
    })
    .map(({ tail, tries, ...more }) =>
      grant({
        ...more,
        id: `0199aaaa-0000-7000-8000-0000${tail}`,
        runnerName: `${more.vmId.slice(0, 48)}-${tail}-${tries}`,
      }),
    ),
  { selector: ({ id, vmId }) => `${id} ${vmId}`, maxLength: 8 },
);
const runnerNames = fc.oneof(
  fc
    .tuple(names, tails, fc.integer({ min: 1, max: 4 }))
    .map(([n, tail, i]) => `${n.slice(0, 48)}-${tail}-${i}`),
  fc.constantFrom("build-box", "vm-1", "vm-1-cafe0001", "-cafe0001-1"),
  fc.string({ minLength: 1, maxLength: 70 }),
);
const sights = fc.record({
  nowMs: fc.constant(2_000_000),
  askedAtMs: fc.constant(1_990_000),
  isComplete: fc.boolean(),
  runners: fc.uniqueArray(
    fc.record({
      id: fc.integer({ min: 1, max: 6 }),
      name: runnerNames,
      isOnline: fc.boolean(),
      isBusy: fc.boolean(),
    }),
    { selector: ({ id }) => id },
  ),
  grants,
  vms: fc.uniqueArray(
    fc
      .record({
        vmId: names,
        incarnation: fc.constantFrom("boot-1", "boot-2"),
        state: fc.constantFrom(...states),
        isOnline: fc.boolean(),
        runnerName: fc.option(runnerNames),
      })
      .map(vm),
    { selector: ({ vmId }) => vmId },
  ),
  before: fc.constant([]),
  offlineAfterMs: fc.constant(600_000),
});

it("nobody else's runner and no busy one is ever removable, nor one that a living VM is about to use", () => {
  let removable = 0;
  fc.assert(
    fc.property(sights, (seen) => {
      for (const finding of judgeRunners(seen)) {
        if (!isRemovable(finding)) continue;
        removable += 1;
        expect(finding.isBusy).toBe(false);
        // Its grant is there, and its name is that grant's and no other's.
        const own = seen.grants.filter((one) => stemOf(one) === stemIn(finding.runnerName));
        expect(own.map(({ id }) => id)).toEqual([finding.grantId]);
        const [its] = own;
        const lives = seen.vms.find(
          ({ vmId, incarnation, state }) =>
            vmId === its?.vmId &&
            incarnation === its.incarnation &&
            state !== "lost" &&
            state !== "terminated",
        );
        const isOver = its?.state === "void" || its?.state === "failed";
        if (lives !== undefined && !isOver && finding.runnerName === its?.runnerName)
          expect({ state: its.state, isOnline: finding.isOnline }).toEqual({
            state: "used",
            isOnline: false,
          });
      }
    }),
    { numRuns: 2_000 },
  );
  expect(removable).toBeGreaterThan(100); // or the world is too small to say anything
});

it("each runner has one verdict, in the order of the list", () => {
  fc.assert(
    fc.property(sights, (seen) => {
      const findings = judgeRunners(seen);
      expect(findings.filter(({ runnerId }) => runnerId !== null).map(({ runnerId }) => runnerId)).toEqual(
        seen.runners.map(({ id }) => id),
      );
      expect(new Set(findings.map(({ entry }) => entry)).size).toBe(findings.length);
      if (!seen.isComplete) expect(findings.some(({ verdict }) => verdict === "missing")).toBe(false);
    }),
  );
});
