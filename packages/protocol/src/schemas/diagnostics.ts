import { Type } from "typebox";
import { Time } from "./shared.ts";

const Files = Type.Array(Type.String(), { description: "the names in the bundle" });

/** Bundles of one VM, newest first. */
export const DiagnosticsList = Type.Object({
  diagnostics: Type.Array(
    Type.Object({
      command_id: Type.String(),
      vm_id: Type.String(),
      bytes: Type.Integer(),
      sha256: Type.String(),
      received_at: Time,
      command_state: Type.String(),
      files: Type.Union([Files, Type.Null()]),
      truncated: Type.Union([Type.Boolean(), Type.Null()]),
    }),
  ),
});

/** A gzipped tar; nothing in it is looked at. */
export const GzipContent = {
  content: {
    "application/gzip": {
      schema: Type.Unsafe<unknown>({ description: "a gzipped tar, at most 1 MiB" }),
    },
  },
};

/** The controller has a bundle of diagnostics; only then may its command succeed. */
export const DiagnosticsStored = Type.Object({
  status: Type.Literal("stored"),
  vm_id: Type.String(),
  command_id: Type.String(),
  bytes: Type.Integer(),
  sha256: Type.String(),
});
