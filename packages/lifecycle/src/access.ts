/**
 * Who may do what to what (DESIGN §7; seed 000 R7.2). Every listener asks this table and nothing else.
 *
 * Parties: `vm` is an agent with a token of its own. `agents` is whoever brings the one token that all agents of a
 * fleet share (seed 001's bearer token file): it speaks for every VM, because nothing tells them apart. The rest are
 * operators by their role.
 */
export const operatorRoles = ["viewer", "operator", "admin"] as const;
export type OperatorRole = (typeof operatorRoles)[number];

export const parties = ["vm", "agents", ...operatorRoles] as const;
export type Party = (typeof parties)[number];

/**
 * no    never
 * own   the VM that the token names
 * org   what belongs to an organization that the operator has; an operator without a list has all of them
 * all   only an operator who has all organizations
 * any   whatever it is
 */
export type Reach = "no" | "own" | "org" | "all" | "any";

const agentsOnly = { vm: "own", agents: "any", viewer: "no", operator: "no", admin: "no" } as const;
const whoReads = { vm: "no", agents: "no", viewer: "org", operator: "org", admin: "org" } as const;
const whoOperates = { ...whoReads, viewer: "no" } as const;
const whoAdministers = { ...whoOperates, operator: "no" } as const;
const whoOwnsAll = { ...whoAdministers, admin: "all" } as const;

export const accessTable = {
  /** Events, heartbeats, commands and their results, a runner's release, streams. */
  "vm.speak": agentsOnly,
  /** Permission to register a runner. */
  "vm.grant": agentsOnly,
  /** A new token for an old one, with proof of the key. */
  "vm.renew": { ...agentsOnly, agents: "no" },
  /** Brings the bundle that the VM was asked for; others read or take it away. */
  "diagnostics.write": agentsOnly,
  "diagnostics.read": whoOperates,
  "vm.read": whoReads,
  "vm.command": whoOperates,
  /** Ends a VM's identity: its token is good for nothing from then on. */
  "vm.revoke": whoOperates,
  "event.read": whoReads,
  "heartbeat.read": whoReads,
  "command.read": whoReads,
  /** Takes back what the VM has not got yet. */
  "command.cancel": whoOperates,
  /** Orders for many VMs at once: what they are, and giving, holding and ending them. */
  "fleet.read": whoReads,
  "fleet.command": whoOperates,
  /** The live feed: what changes, as it does. */
  "feed.read": whoReads,
  "runner.read": whoReads,
  "org.read": whoReads,
  "org.write": whoOwnsAll,
  "pool.read": whoReads,
  "pool.write": whoAdministers,
  "app.read": { ...whoReads, viewer: "all", operator: "all", admin: "all" },
  "app.write": whoOwnsAll,
  "app.check": { ...whoOperates, operator: "all", admin: "all" },
  "join_token.read": whoOperates,
  "join_token.write": whoOperates,
  "key.read": whoAdministers,
  "key.write": whoAdministers,
  "audit.read": whoAdministers,
} as const satisfies Record<string, Record<Party, Reach>>;

export type Action = keyof typeof accessTable;
export const actions = Object.keys(accessTable) as Action[];

/** Who asks. `orgs` undefined: all of them. */
export type Caller =
  | { readonly party: "vm"; readonly vmId: string; readonly poolId: string; readonly orgId: string }
  | { readonly party: "agents" }
  | { readonly party: OperatorRole; readonly name: string; readonly orgs?: readonly string[] };

/** What it is about. A key that is absent is not known yet, and then only who reaches everything may go on. */
export interface AccessObject {
  readonly vmId?: string;
  readonly orgId?: string;
}

/**
 * yes      go on
 * no       not with this role: told so
 * foreign  it belongs to somebody else: to an operator it does not exist
 */
export type Verdict = "yes" | "no" | "foreign";

export function judgeAccess(caller: Caller, action: Action, object: AccessObject): Verdict {
  const reach: Reach = accessTable[action][caller.party];
  switch (reach) {
    case "no":
      return "no";
    case "any":
      return "yes";
    case "own":
      return caller.party === "vm" && object.vmId === caller.vmId ? "yes" : "no";
    case "all":
      return "orgs" in caller && caller.orgs !== undefined ? "no" : "yes";
    case "org": {
      if (!("orgs" in caller) || caller.orgs === undefined) return "yes";
      return object.orgId !== undefined && caller.orgs.includes(object.orgId) ? "yes" : "foreign";
    }
  }
}
