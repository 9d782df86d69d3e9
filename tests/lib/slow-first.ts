import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * Whoever takes longest begins first: begun last, it would run alone while the other workers have nothing left to do. On a
 * fresh clone vitest knows no durations and goes by size, and these are small files that wait for processes.
 */
const slow = [
  "tests/conformance/conformance.test.ts",
  "tests/conformance/conformance-on-server.test.ts",
  "apps/controller/tests/feed-cutover.test.ts",
  "apps/controller/tests/grants.test.ts",
  "tests/limits.test.ts",
  "tests/conformance/conformance-on-server.test.ts",
  "tests/deploy-systemd.test.ts",
  "tests/robustness/kill-in-each-state.test.ts",
  "apps/miglet/tests/runner-scenarios.test.ts",
  "apps/controller/tests/tls.test.ts",
  "apps/controller/tests/ws-garbage.test.ts",
  "apps/controller/tests/grants-faults.test.ts",
  "tests/robustness/failover.test.ts",
  "tests/robustness/kill-agent.test.ts",
  "apps/controller/tests/desk.test.ts",
  "tests/refresh-grant.test.ts",
  "apps/miglet/tests/miglet.test.ts",
  "apps/controller/tests/grants-crowd.test.ts",
  "tests/jobs.test.ts",
  "tests/orders.test.ts",
  "tests/join.test.ts",
  "tests/robustness/disk-full.test.ts",
  "apps/cli/tests/terminal.test.ts",
  "tests/collect-diagnostics.test.ts",
  "tests/robustness/fleet-kill.test.ts",
  "tests/story.test.ts",
];

/** A thousand at once, and whether they were told the right time: the fewer others work on the machine, the better. */
const last = "tests/robustness/grants-two-processes.test.ts";

export class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      if (moduleId.endsWith(`/${last}`)) return slow.length + 1;
      const at = slow.findIndex((path) => moduleId.endsWith(`/${path}`));
      return at < 0 ? slow.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
