import { describe, expect, it } from "vitest";
import { accessTable, actions, type Caller, judgeAccess, parties } from "./access.ts";

const ofAcme = { vmId: "vm-1", orgId: "acme" };
const ofOther = { vmId: "vm-2", orgId: "other" };
const callers: Record<(typeof parties)[number], { whole: Caller; scoped?: Caller }> = {
  vm: { whole: { party: "vm", vmId: "vm-1", poolId: "p", orgId: "acme" } },
  agents: { whole: { party: "agents" } },
  viewer: { whole: { party: "viewer", name: "v" }, scoped: { party: "viewer", name: "v", orgs: ["acme"] } },
  operator: {
    whole: { party: "operator", name: "o" },
    scoped: { party: "operator", name: "o", orgs: ["acme"] },
  },
  admin: { whole: { party: "admin", name: "a" }, scoped: { party: "admin", name: "a", orgs: ["acme"] } },
};

describe("access", () => {
  for (const action of actions)
    for (const party of parties)
      it(`${party} ${accessTable[action][party]} ${action}`, () => {
        const reach = accessTable[action][party];
        const { whole, scoped } = callers[party];
        const expected = {
          no: ["no", "no"],
          any: ["yes", "yes"],
          own: ["yes", "no"],
          org: ["yes", "yes"],
          all: ["yes", "yes"],
        }[reach];
        expect([judgeAccess(whole, action, ofAcme), judgeAccess(whole, action, ofOther)]).toEqual(expected);
        if (scoped === undefined) return;
        const own = { no: "no", any: "yes", own: "no", org: "yes", all: "no" }[reach];
        const foreign = { no: "no", any: "yes", own: "no", org: "foreign", all: "no" }[reach];
        expect(judgeAccess(scoped, action, ofAcme)).toBe(own);
        expect(judgeAccess(scoped, action, ofOther)).toBe(foreign);
        expect(judgeAccess(scoped, action, {})).toBe(foreign);
      });

  it("whoever may do more may do all that the role below may", () => {
    const rank = { no: 0, own: 1, all: 2, org: 3, any: 4 };
    for (const action of actions) {
      const { viewer, operator, admin } = accessTable[action];
      expect(rank[operator], action).toBeGreaterThanOrEqual(rank[viewer]);
      expect(rank[admin], action).toBeGreaterThanOrEqual(rank[operator]);
    }
  });

  it("no operator speaks for a VM, and no VM reads what operators read", () => {
    for (const action of actions) {
      const { vm, agents, viewer } = accessTable[action];
      if (vm !== "no" || agents !== "no") expect(accessTable[action].admin, action).toBe("no");
      if (viewer !== "no") expect([vm, agents], action).toEqual(["no", "no"]);
    }
  });
});
