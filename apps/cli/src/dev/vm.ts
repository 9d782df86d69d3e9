import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { installRunner } from "@mig/sandbox";

export interface PreparedVm {
  vmId: string;
  configPath: string;
  logPath: string;
}

/** What an image builder and a cloud would have put on the VM: an installed runner and the agent's settings. */
export async function prepareVm(dir: string, vmId: string, controllerUrl: string): Promise<PreparedVm> {
  const home = join(dir, vmId);
  await mkdir(home, { recursive: true });
  await installRunner(join(home, "actions-runner"), { timeFactor: 0.1 });
  const configPath = join(home, "miglet.yaml");
  const settings = [
    `pool_id: pool-dev`,
    `vm_id: ${vmId}`,
    `org_id: acme`,
    `controller:`,
    `  endpoint: ${controllerUrl}`,
    `heartbeat:`,
    `  interval: 5s`,
    `runner:`,
    `  dir: ${join(home, "actions-runner")}`,
    `  allow_root: true`, // a development machine may be a container in which there is nobody else
    `state_dir: ${join(home, "state")}`,
    `logging:`,
    `  level: info`,
    `  format: json`,
  ];
  await writeFile(configPath, `${settings.join("\n")}\n`);
  return { vmId, configPath, logPath: join(home, "miglet.log") };
}
