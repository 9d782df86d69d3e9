import type { CheckSpec } from "./check.ts";
import { runAs } from "./run-as.ts";
import { runnerUser } from "./runner-files.ts";

/**
 * Whether a job could ask the metadata service, and so become what this machine is in its cloud (reliability-security
 * F12, runner-contract trap 25). Only a warning: some fleets give the machine no identity instead.
 */
export const metadataExposure: CheckSpec = {
  name: "metadata_service",
  needs: ["metadata.endpoint", "runner.user"],
  isRequired: () => false,
  isCheap: true,
  async find(settings, { environment, facts }, signal) {
    if (facts === undefined) return "this is no cloud";
    const user = await runnerUser(settings);
    if (user === undefined) return "not looked at: jobs run as the agent's own user";
    const { hostname, port } = new URL(settings["metadata.endpoint"]);
    // Only whether a connection is made; nothing is asked.
    const script = 'exec 3<>"/dev/tcp/$0/$1"';
    const { code } = await runAs(["bash", "-c", script, hostname, port === "" ? "80" : port], {
      environment,
      signal,
      timeoutMs: 1_500,
      user,
    });
    if (code === 0)
      throw new Error(
        `Jobs of ${user.name} can reach the metadata service and use this machine's identity: block ${hostname} for that user (install.sh --block-metadata), and give the machine no cloud permissions.`,
      );
    return `closed to ${user.name}`;
  },
};
