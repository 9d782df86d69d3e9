import type { CheckSpec } from "./check.ts";
import { findProgram, runAs } from "./run-as.ts";
import { firstLine, runnerUser } from "./runner-files.ts";

/** As the runner does it: with the client, as the runner's user. A socket that root may open says nothing of a job. */
export const docker: CheckSpec = {
  name: "docker",
  needs: ["prerequisites.docker", "runner.user"],
  isRequired: (settings) => settings["prerequisites.docker"],
  isCheap: false,
  canHeal: true,
  async find(settings, { environment }, signal) {
    const client = await findProgram("docker", environment["PATH"]);
    if (client === undefined)
      throw new Error(
        "There is no docker on the PATH: install Docker, or set prerequisites.docker to false.",
      );
    const user = await runnerUser(settings);
    const { code, stdout, stderr } = await runAs([client, "version", "--format", "{{.Server.Version}}"], {
      environment,
      signal,
      timeoutMs: 4_000,
      ...(user === undefined ? {} : { user }),
    });
    if (code === 0) return `server ${firstLine(stdout)}`;
    const name = user?.name ?? "the agent's user";
    if (code === undefined)
      throw new Error(`Docker did not answer ${name} in 4 s: see systemctl status docker.`);
    const remedy = /permission denied/i.test(stderr)
      ? `add it to the group: usermod -aG docker ${name}`
      : "start it: systemctl enable --now docker";
    throw new Error(`Docker does not answer ${name} (${firstLine(stderr)}): ${remedy}.`);
  },
};
