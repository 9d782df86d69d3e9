import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exitCodes } from "../apps/miglet/src/boot/exit-codes.ts";
import { settingsTable } from "../apps/miglet/src/boot/settings-table.ts";
import { scopePrefix } from "../apps/miglet/src/runner/scope.ts";
import { hasTool, type Ran, runProgram } from "./lib/run-program.ts";

/** What ships the agent, held against the tools that read it and against what the agent itself says. */
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const deploy = join(root, "apps/miglet/deploy");
const systemd = join(deploy, "systemd");
const isRoot = process.getuid?.() === 0;
const read = (path: string): Promise<string> => readFile(join(root, path), "utf8");

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-deploy-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe("miglet.service", () => {
  let service: Map<string, string>;
  beforeAll(async () => {
    const lines = (await readFile(join(systemd, "miglet.service"), "utf8")).split("\n");
    service = new Map(
      lines
        .filter((line) => /^[A-Z]/.test(line))
        .map((line) => {
          const [key = "", ...value] = line.split("=");
          return [key, value.join("=")];
        }),
    );
  });
  const seconds = (text = ""): number => Number.parseInt(text, 10) * (text.endsWith("min") ? 60 : 1);

  it("has nothing that a child inherits, but what is right for jobs", () => {
    // systemd.exec(5) is what a process gets before it is executed, and so what its children get.
    const inherited =
      /^(?:Protect|Private|Restrict|SystemCall|ReadOnly|ReadWrite|Inaccessible|Exec(?:utable)?Paths|NoExec|Temporary|Bind|Root|Mount|Capability|Ambient|NoNew|Secure|Lock|MemoryDeny|Limit|UMask|Nice|CPUScheduling|CPUAffinity|IOScheduling|Personality|DynamicUser|SupplementaryGroups|Keyring|Remove|ProcSubset|NUMA|TimerSlack|IgnoreSIGPIPE|WorkingDirectory)/;
    expect([...service.keys()].filter((key) => inherited.test(key))).toEqual(["LimitCORE", "LimitNOFILE"]);
    // Its soft limit alone: a job may raise it again.
    expect(service.get("LimitCORE")).toBe("0:infinity");
    expect(service.get("User")).toBe("root");
  });

  it("decides about exit codes that there are, and lets the agent's own times pass", () => {
    const prevented = service.get("RestartPreventExitStatus")?.split(" ") ?? [];
    expect(prevented.filter((code) => !Object.hasOwn(exitCodes, code))).toEqual([]);
    expect(Object.keys(exitCodes).filter((code) => !prevented.includes(code))).toEqual(["0", "3", "70"]);
    const stopMs = (["force_after", "grace_period", "flush_timeout"] as const)
      .map((key) => Number(settingsTable[`shutdown.${key}`].fallback))
      .reduce((sum, ms) => sum + ms, 0);
    expect(seconds(service.get("TimeoutStopSec")) * 1_000).toBeGreaterThan(stopMs + 30_000);
    expect(service.get("KillMode")).toBe("process");
  });

  it("puts the runner's scopes where the agent puts them", async () => {
    expect(await readdir(systemd)).toEqual(
      expect.arrayContaining([`${scopePrefix}.scope.d`, "miglet-runner.slice"]),
    );
    expect(await read("apps/miglet/src/runner/launch-words.ts")).toContain("--slice=miglet-runner.slice");
  });
});

describe.skipIf(!hasTool("systemd-analyze"))("miglet.service by systemd-analyze (needs systemd)", () => {
  let image: string;
  const analyze = (...args: string[]): Promise<Ran> =>
    runProgram("systemd-analyze", [args[0] ?? "", `--root=${image}`, ...args.slice(1)]);
  beforeAll(async () => {
    image = join(dir, "image");
    const units = join(image, "usr/local/lib/systemd/system");
    await mkdir(units, { recursive: true });
    await mkdir(join(image, "usr/local/bin"), { recursive: true });
    await copyFile("/bin/true", join(image, "usr/local/bin/miglet"));
    await cp(systemd, units, { recursive: true });
    // What every machine has: the targets.
    await mkdir(join(image, "lib/systemd/system"), { recursive: true });
    for (const name of await readdir("/lib/systemd/system"))
      if (name.endsWith(".target"))
        await copyFile(join("/lib/systemd/system", name), join(image, "lib/systemd/system", name));
  });

  it("verifies, and a slip would be found", async () => {
    const units = ["miglet.service", "miglet.slice", "miglet-runner.slice"];
    expect(await analyze("verify", ...units)).toMatchObject({ code: 0, stderr: "" });
    const path = join(image, "usr/local/lib/systemd/system/miglet.service");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace("CPUWeight=", "CPUWeigth="));
    const { stderr } = await analyze("verify", ...units);
    await writeFile(path, text);
    expect(stderr).toContain("Unknown key 'CPUWeigth'");
  });

  it("is exposed as the operator's document says", async () => {
    const { stdout } = await analyze("security", "--offline=true", "miglet.service");
    const [, score] = /exposure level for miglet\.service: (\d+\.\d)/.exec(stdout) ?? [];
    const { stdout: version } = await runProgram("systemd-analyze", ["--version"]);
    // Another version counts other things.
    if (version.startsWith("systemd 252 "))
      expect(await read("docs/operate/miglet.md")).toContain(`**${score} UNSAFE**`);
    else expect(Number(score)).toBeLessThan(10);
  });
});

describe.skipIf(!isRoot || !["nft", "unshare", "ip", "setpriv", "curl"].every(hasTool))(
  "block-metadata.nft (needs root, nft, unshare, ip, setpriv and curl)",
  () => {
    it("closes the service to the user of jobs, and neither to root nor to the name server", async () => {
      const rules = await readFile(join(systemd, "block-metadata.nft"), "utf8");
      // In place of a user that this machine may not have.
      await writeFile(join(dir, "rules.nft"), rules.replaceAll('"actions-runner"', '"nobody"'));
      const server =
        'for(const p of [80,53])require("http").createServer((q,r)=>r.end("ok")).listen(p,"169.254.169.254")';
      const script = `
        ip link set lo up; ip address add 169.254.169.254/32 dev lo
        "$1" -e '${server}' & server=$!
        ask() { curl --silent --noproxy '*' --max-time 5 --retry 40 --retry-delay 0 --retry-max-time 20 --retry-connrefused "$1"; }
        asNobody() { setpriv --reuid=65534 --regid=65534 --clear-groups -- curl --silent --noproxy '*' --max-time 5 "$1"; }
        ask http://169.254.169.254/; ask http://169.254.169.254:53/
        printf ' before=%s' "$(asNobody http://169.254.169.254/)"
        nft -f "$2" && nft -f "$2"
        printf ' root=%s' "$(ask http://169.254.169.254/)"
        printf ' job=%s' "$(asNobody http://169.254.169.254/; echo $?)"
        printf ' dns=%s' "$(asNobody http://169.254.169.254:53/)"
        kill $server`;
      const { stdout } = await runProgram("unshare", [
        ...["--net", "sh", "-c", script, "sh", process.execPath, join(dir, "rules.nft")],
      ]);
      // 7: the connection was refused.
      expect(stdout).toBe("okok before=ok root=ok job=7 dns=ok");
    });
  },
);

it.skipIf(!hasTool("shellcheck"))("every script is clean (needs shellcheck)", async () => {
  const names = (await readdir(deploy, { recursive: true })).filter((name) => name.endsWith(".sh"));
  expect(names.length).toBeGreaterThanOrEqual(6);
  const ran = await runProgram(
    "shellcheck",
    names.map((name) => join(deploy, name)),
  );
  expect(ran).toMatchObject({ code: 0, stdout: "" });
});
