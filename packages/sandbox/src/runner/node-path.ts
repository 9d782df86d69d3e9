import { fileURLToPath } from "node:url";

/** What runs the stand-in programs: Node, also when a test of the agent runs inside Bun. */
export const nodePath =
  "bun" in process.versions
    ? fileURLToPath(new URL("../../../../node_modules/.bin/node", import.meta.url))
    : process.execPath;
