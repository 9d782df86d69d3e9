import type { JsonObject } from "@mig/protocol";
import type { Table } from "./table.ts";

/**
 * wanted   in the line for its turn at GitHub
 * making   one replica is asking GitHub; the claim ends after a minute, should that replica die
 * made     GitHub gave it. It is sealed and goes to whoever brings its request id, again and again for five minutes
 * used     the runner has registered
 * failed   GitHub refused for good, or too often
 * void     what it was wanted for is over; its registration, if GitHub has one, is being removed
 */
export const grantStates = ["wanted", "making", "made", "used", "failed", "void"] as const;
export type GrantState = (typeof grantStates)[number];

export interface GrantRow {
  id: string;
  vmId: string;
  incarnation: string;
  /** The command that carries it, or the key of a request. */
  requestId: string;
  poolId: string;
  orgId: string;
  /** Of the GitHub App that makes it. */
  app: string;
  /** What the runner shall be. */
  wish: JsonObject;
  state: GrantState;
  /** Calls for it so far; the runner's name is another one at each. */
  tries: number;
  runnerName: string | null;
  runnerId: number | null;
  /** The secret, encrypted; gone as soon as nobody may ask for it again. */
  sealed: string | null;
  problem: JsonObject | null;
  wantedAtMs: number;
  notBeforeMs: number;
  claimedUntilMs: number | null;
  madeAtMs: number | null;
  expiresAtMs: number | null;
  settledAtMs: number | null;
  /** Somebody was told that no runner came of it. */
  alertedAtMs: number | null;
  /** Its registration is gone from GitHub. */
  removedAtMs: number | null;
}

export const grantsTable: Table<GrantRow> = {
  name: "grants",
  columns: {
    id: "text",
    vmId: "text",
    incarnation: "text",
    requestId: "text",
    poolId: "text",
    orgId: "text",
    app: "text",
    wish: "json",
    state: "text",
    tries: "int",
    runnerName: "text",
    runnerId: "int",
    sealed: "text",
    problem: "json",
    wantedAtMs: "time",
    notBeforeMs: "time",
    claimedUntilMs: "time",
    madeAtMs: "time",
    expiresAtMs: "time",
    settledAtMs: "time",
    alertedAtMs: "time",
    removedAtMs: "time",
  },
};
