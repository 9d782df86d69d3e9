import { describe, expect, it } from "vitest";
import {
  agentMoves,
  agentStates,
  commandInputs,
  commandStates,
  isFinished,
  isTerminal,
  mayMove,
  nextCommandState,
  nextVmState,
  statesThatAccept,
  vmInputs,
  vmStates,
} from "./index.ts";

/** Every cell of every table is visited; the rules below hold in all of them, whoever edits a row. */
describe("the VM table, cell by cell", () => {
  for (const state of vmStates) {
    for (const input of vmInputs) {
      it(`${state} × ${input}`, () => {
        const next = nextVmState(state, input);
        expect(vmStates).toContain(next);
        if (isTerminal(state)) expect(next).toBe(state);
        if (state === "shutting_down") expect(["shutting_down", "terminated"]).toContain(next);
        if (state === "draining") expect(["idle", "running", "initializing"]).not.toContain(next);
        if (input === "silence" && !isTerminal(state))
          expect(next).toBe(state === "shutting_down" ? "terminated" : "lost");
        if (input === "vm_terminated" && !isTerminal(state)) expect(next).toBe("terminated");
        if (next === "lost") expect([input, state]).toContain(state === "lost" ? "lost" : "silence");
        if (input === "events_dropped") expect(next).toBe(state);
      });
    }
  }
});

describe("the command table, cell by cell", () => {
  for (const state of commandStates) {
    for (const input of commandInputs) {
      it(`${state} × ${input}`, () => {
        const next = nextCommandState(state, input);
        if (isFinished(state)) expect(next).toBeUndefined();
        if (next !== undefined) expect(commandStates).toContain(next);
        if (next === "pending") expect([state, input]).toEqual(["sent", "unacknowledged"]);
        if (input === "cancel" && next !== undefined) expect(state).toBe("pending");
        expect(statesThatAccept(input).includes(state)).toBe(next !== undefined);
      });
    }
  }
  it("can always end: expiry applies to everything that is not finished", () => {
    expect(statesThatAccept("expire")).toEqual(commandStates.filter((state) => !isFinished(state)));
  });
});

describe("the agent's moves, cell by cell", () => {
  for (const from of agentStates) {
    for (const to of agentStates) {
      it(`${from} → ${to}`, () => {
        const listed = (agentMoves[from] as readonly string[]).includes(to);
        expect(mayMove(from, to)).toBe(listed || from === to);
        if (from === "shutting_down") expect(listed).toBe(false);
        if (from === "draining") expect(listed).toBe(to === "shutting_down" || to === "error");
        if (to === "initializing") expect(listed).toBe(false);
      });
    }
  }
  it("lets every state but the last reach shutting_down", () => {
    for (const from of agentStates.filter((state) => state !== "shutting_down"))
      expect(agentMoves[from]).toContain("shutting_down");
  });
});
