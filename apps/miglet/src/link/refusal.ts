import type { MigError } from "@mig/lifecycle";
import type { Refusal } from "./link.ts";

/** Undefined: the error says nothing about this VM, and another try may go well. */
export function refusalOf(error: MigError): Refusal | undefined {
  switch (error.code) {
    case "controller_refused":
    case "incarnation_lost":
    case "unauthenticated":
    case "forbidden":
      return { code: error.code, message: error.message };
    case "vm_mismatch":
      return { code: "forbidden", message: error.message };
    default:
      return undefined;
  }
}
