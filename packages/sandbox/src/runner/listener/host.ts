import type { DiagLog } from "../diag-log.ts";
import type { Installation } from "../installation.ts";
import { removeFile } from "../runner-files.ts";
import type { Terminal } from "./terminal.ts";

/** What every command of the Listener works with. */
export interface Host {
  readonly installation: Installation;
  readonly terminal: Terminal;
  readonly log: DiagLog;
}

/** Deletes what configure or JIT left; called "local cleanup" in the real one. */
export async function removeLocalFiles({ installation, terminal }: Host): Promise<void> {
  removeFile(installation.root, ".credentials_rsaparams");
  for (const name of [".credentials", ".runner"]) {
    if (removeFile(installation.root, name)) await terminal.success(`Removed ${name}`);
    else terminal.line(`Does not exist. Skipping Removing ${name}`);
  }
}
