import { MigError } from "@mig/lifecycle";
import type { Config } from "../config/config.ts";

/** Who is allowed where. Static tokens until VMs and operators have identities of their own (DESIGN §7). */
export type Party = "agent" | "operator";

/** Resolves to nothing, or throws `unauthenticated` (who are you?) or `forbidden` (not with this token). */
export type Gate = (party: Party, authorization: string | undefined) => void;

export function createGate(tokens: Config["tokens"]): Gate {
  if (tokens === undefined) return () => {};
  return (party, authorization) => {
    const token = /^bearer ([^\s]{1,4096})$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) {
      throw new MigError("unauthenticated", "send the header authorization: Bearer TOKEN");
    }
    // Both are compared always, so that the time does not tell which one was nearly right.
    const isAgent = tokens.agent.matches(token);
    const isOperator = tokens.operator.matches(token);
    if (party === "agent" ? isAgent : isOperator) return;
    if (isAgent || isOperator) throw new MigError("forbidden", `this needs the token of an ${party}`);
    throw new MigError("unauthenticated", "the token is not known here");
  };
}

/** The same as the first step of a route: nobody's body is read before they are known. */
export function ask(gate: Gate, party: Party) {
  return async ({ headers }: { headers: { authorization?: string | undefined } }): Promise<void> => {
    gate(party, headers.authorization);
  };
}
