import { defineConfig } from "vitest/config";
import { SlowFirst } from "./tests/lib/slow-first.ts";

/** Tests import the packages' sources; programs that they spawn run what `tsc -b` has built. */
export default defineConfig({
  resolve: { conditions: ["mig-source"] },
  ssr: { resolve: { conditions: ["mig-source"], externalConditions: ["mig-source"] } },
  test: {
    include: ["packages/*/{src,tests}/**/*.test.ts", "apps/*/{src,tests}/**/*.test.ts", "tests/**/*.test.ts"],
    globalSetup: ["tests/lib/run-dir.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    sequence: { sequencer: SlowFirst },
    // Most tests wait for processes and for time that must pass: three of them fill two cores.
    maxWorkers: 3,
    // Real processes on a shared machine: CI tries a failed test once more, and says so. A developer sees it at once.
    retry: process.env["CI"] === undefined ? 0 : 1,
  },
});
