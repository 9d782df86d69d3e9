import { access, cp, mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { installRunner } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exitCodes } from "../apps/miglet/src/boot/exit-codes.ts";
import { type House, openHouse } from "./lib/house.ts";
import { runProgram } from "./lib/run-program.ts";
import { bootSystemd } from "./lib/systemd-machine.ts";

/**
 * The units under a real systemd, which boots in namespaces of this machine: what it does at each exit code, and that
 * neither the end of the agent nor that of the machine ends a job.
 */
const deploy = fileURLToPath(new URL("../apps/miglet/deploy", import.meta.url));
const packageScript = fileURLToPath(new URL("../apps/miglet/scripts/package.mjs", import.meta.url));
const arch = process.arch === "arm64" ? "arm64" : "x64";
const machine = await bootSystemd();
afterAll(() => machine?.close());

describe.skipIf(machine === undefined)("under systemd (needs root, systemd, overlayfs and cgroup v2)", () => {
  if (machine === undefined) return;
  const { inside, shell, at, show, override } = machine;

  beforeAll(async () => {
    const out = at("/opt/package");
    const made = await runProgram(process.execPath, [
      packageScript,
      "--target",
      `linux-${arch}`,
      "--out",
      out,
    ]);
    expect(made).toMatchObject({ code: 0 });
    await cp(deploy, at("/opt/deploy"), { recursive: true });
    const installed = await inside("/opt/deploy/install.sh", "--from", "/opt/package");
    expect(installed).toMatchObject({ code: 0 });
    expect(await shell("systemctl is-enabled miglet; systemctl is-active miglet")).toBe("enabled\ninactive");
  });

  describe("what an exit code leads to", () => {
    const restarted = ["3", "70"];
    beforeAll(() =>
      // That systemd-notify, a child, may say that the agent is ready is shown by the way.
      override([
        "ExecStart=",
        "ExecStart=/bin/sh -c 'systemd-notify --ready; exit $(cat /run/miglet-code)'",
        "RestartSec=100ms",
      ]),
    );
    it.each(Object.keys(exitCodes))("%s", async (code) => {
      await writeFile(at("/run/miglet-code"), code);
      await inside("systemctl", "reset-failed", "miglet");
      expect(await inside("systemctl", "start", "miglet")).toMatchObject({ code: 0 });
      if (restarted.includes(code)) {
        await waitFor("two more starts", async () => Number(await show("NRestarts")) >= 2);
        await inside("systemctl", "stop", "miglet");
        return;
      }
      const end = code === "0" ? "inactive" : "failed";
      await waitFor("the end", async () => (await show("ActiveState")) === end);
      expect(await show("NRestarts")).toBe("0");
    });
    it("a fault that comes at once is given up", async () => {
      await writeFile(at("/run/miglet-code"), "70");
      await override([
        "ExecStart=",
        "ExecStart=/bin/sh -c 'systemd-notify --ready; exit 70'",
        "RestartSec=10ms",
      ]);
      await inside("systemctl", "reset-failed", "miglet");
      await inside("systemctl", "start", "miglet");
      await waitFor("systemd to give up", async () => (await show("ActiveState")) === "failed");
      expect(Number(await show("NRestarts"))).toBeLessThanOrEqual(20);
    });
  });

  describe("a job", () => {
    let house: House;
    let scope: string;
    beforeAll(async () => {
      house = await openHouse();
      // The agent's own words make it ready, and feed the watchdog each second.
      await override(["WatchdogSec=2s", "RestartSec=500ms"]);
      await installRunner(at("/opt/actions-runner"), { timeFactor: 0.02 });
      const { stdout } = await inside("chown", "-R", "actions-runner:", "/opt/actions-runner");
      expect(stdout).toBe("");
    });
    afterAll(async () => {
      await house[Symbol.asyncDispose]();
    });

    async function startJob(vmId: string, durationMs = 4_000): Promise<number> {
      // The one before has said its last word, and may still be ending.
      await inside("systemctl", "stop", "miglet");
      await inside("systemctl", "reset-failed", "miglet");
      await shell("rm -rf /var/lib/miglet/* /opt/actions-runner/.runner /opt/actions-runner/.credentials*");
      const yaml = [
        `{ pool_id: pool-a, vm_id: ${vmId}, org_id: acme, controller: { endpoint: "${house.url}" }`,
        "metadata: { source: none }, runner: { user: actions-runner, scope: systemd }",
        "shutdown: { command: touch /run/powered-off } }",
      ];
      await writeFile(at("/etc/miglet/miglet.yaml"), yaml.join(",\n"));
      expect(await inside("systemctl", "start", "miglet")).toMatchObject({ code: 0 });
      await house.until(vmId, "state", "idle");
      scope = await shell("systemctl list-units --plain --no-legend 'miglet-runner-*.scope' | cut -d' ' -f1");
      const { id } = await house.github.queueJob({ overrides: { durationMs } });
      await house.until(vmId, "state", "running");
      return id;
    }
    const conclusionOf = async (id: number) => (await house.github.job(id))?.conclusion;

    it("is another user in another cgroup, and has lost nothing of what a user has", async () => {
      const id = await startJob("vm-cgroup");
      const agent = await show("MainPID");
      // A step of the job: the runner's own processes are Node, which has its own mind about some signals.
      const processes = `/sys/fs/cgroup/miglet.slice/miglet-runner.slice/${scope}/cgroup.procs`;
      // A step can end between two looks: what it was is read in one.
      const { status, mounts } = await waitFor("a step", async () => {
        const pid = await shell(
          `for pid in $(cat ${processes}); do [ "$(cat /proc/$pid/comm)" != sleep ] || echo $pid; done`,
        );
        if (!/^\d+$/.test(pid)) return undefined;
        const [about, mounts] = [
          await shell(`cat /proc/${pid}/status`),
          await shell(`readlink /proc/${pid}/ns/mnt`),
        ];
        return about === "" || mounts === "" ? undefined : { status: about, mounts };
      });
      expect(await shell(`grep 0:: /proc/${agent}/cgroup`)).toBe("0::/miglet.slice/miglet.service");
      expect(await shell(`cat ${processes}`)).not.toMatch(new RegExp(`^${agent}$`, "m"));
      const uid = await shell("id -u actions-runner");
      expect(status).toMatch(new RegExp(`^Uid:\\t${uid}\\t${uid}\\t${uid}\\t${uid}$`, "m"));
      expect(status).toMatch(/^NoNewPrivs:\t0$/m);
      expect(status).toMatch(/^Seccomp:\t0$/m);
      expect(status).toMatch(/^CapAmb:\t0+$/m);
      expect(status).toMatch(/^SigIgn:\t0+$/m);
      const bounding = (text: string) => /^CapBnd:\t(.*)$/m.exec(text)?.[1];
      expect(bounding(status)).toBe(bounding(await shell("cat /proc/1/status")));
      expect(mounts).toBe(await shell("readlink /proc/1/ns/mnt"));
      await house.until("vm-cgroup", "state", "terminated");
      expect(await conclusionOf(id)).toBe("success");
      await waitFor("the power-off command", () => access(at("/run/powered-off")).then(() => true));
      await waitFor("the end of the service", async () => (await show("ActiveState")) === "inactive");
      // It lived for longer than the watchdog waits.
      expect(await show("NRestarts")).toBe("0");
    });

    it("goes on when the agent is killed, and the next agent sees its end", async () => {
      const id = await startJob("vm-killed");
      const before = await show("MainPID");
      await inside("systemctl", "kill", "--kill-who=main", "--signal=KILL", "miglet");
      await waitFor("another agent", async () => {
        const now = await show("MainPID");
        return now !== "0" && now !== before;
      });
      await house.until("vm-killed", "state", "terminated");
      expect(await conclusionOf(id)).toBe("success");
    });

    it("goes on when the agent stands still, which systemd notices", async () => {
      const id = await startJob("vm-still", 6_000);
      const before = await show("MainPID");
      await shell(`kill -STOP ${before}`);
      await waitFor("another agent", async () => {
        const now = await show("MainPID");
        return now !== "0" && now !== before;
      });
      await house.until("vm-still", "state", "terminated");
      expect(await conclusionOf(id)).toBe("success");
    });

    it("goes on when install.sh replaces the agent", async () => {
      const id = await startJob("vm-upgraded");
      expect(await inside("/opt/deploy/install.sh", "--uninstall")).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(scope),
      });
      const before = await show("MainPID");
      // Another file of the same name, and the same agent in the end.
      const newer = `#!/bin/sh\nexec /opt/package/miglet-linux-${arch} "$@"\n`;
      await mkdir(at("/opt/newer"));
      await writeFile(at(`/opt/newer/miglet-linux-${arch}`), newer, { mode: 0o755 });
      await shell("cd /opt/newer && sha256sum miglet-linux-* > SHA256SUMS");
      const upgraded = await inside("/opt/deploy/install.sh", "--from", "/opt/newer", "--start");
      expect(upgraded).toMatchObject({ code: 0, stdout: expect.stringContaining("The agent is replaced") });
      await waitFor("the new agent", async () => {
        const now = await show("MainPID");
        return now !== "0" && now !== before;
      });
      await house.until("vm-upgraded", "state", "terminated");
      expect(await conclusionOf(id)).toBe("success");
    });

    it("ends before the machine does: its scope is stopped after the agent", async () => {
      const id = await startJob("vm-off");
      // What a shutdown does: both at once, in the order that the units say.
      await inside("systemctl", "stop", "miglet.service", scope);
      expect(await conclusionOf(id)).toBe("success");
      await house.until("vm-off", "state", "terminated");
    });
  });

  it("is taken away again", async () => {
    expect(await inside("/opt/deploy/install.sh", "--uninstall", "--purge")).toMatchObject({ code: 0 });
    expect(await show("LoadState")).toBe("not-found");
  });
});
