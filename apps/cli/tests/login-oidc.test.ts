import { chmodSync, existsSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { type OidcIssuer, startOidcIssuer } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../../controller/tests/identity-lab.ts";
import { runTokenCommand } from "../src/credential.ts";
import { openHome } from "./migctl-lab.ts";

/** People who log in with tokens of their OpenID provider, which end after an hour. */
let issuer: OidcIssuer;
let lab: IdentityLab;
const stops: (() => Promise<void>)[] = [];
const { home, run } = openHome();
const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "migctl-oidc-"));
const tokenFile = join(dir, "token");
const counter = join(dir, "runs");
const never = new AbortController().signal;

beforeAll(async () => {
  issuer = await startOidcIssuer("mig");
  const roles = [{ value: "web", role: "viewer", orgs: ["acme"] }];
  const oidc = { issuer: issuer.issuer, audience: "mig", roles };
  lab = await openIdentityLab({ yaml: { oidc }, atEnd: (stop) => void stops.push(stop) });
  writeFileSync(tokenFile, `${issuer.token({ groups: ["web"] })}\n`);
});
afterAll(async () => {
  for (const stop of stops) await stop();
  await issuer.close();
});

describe("migctl login", () => {
  it("keeps the command, and runs it again for each call", async () => {
    const command = `echo run >> '${counter}'; cat '${tokenFile}'`;
    const { code, err } = await run(["login", lab.url, "--profile", "cmd", "--token-command", command]);
    expect([code, err]).toEqual([0, ""]);
    const path = join(home, ".config/mig/profiles.yaml");
    const kept = readFileSync(path, "utf8");
    expect(kept).toContain("token_command");
    expect(kept).not.toContain("eyJ");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect((await run(["vm", "ls", "--json"])).code).toBe(0);
    expect(readFileSync(counter, "utf8").split("\n").length - 1).toBe(2);
    const refused = await run(["vm", "drain", "vm-1"]);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("the controller refused")]);
  });

  it("keeps the name of the file, and reads what is in it then", async () => {
    expect((await run(["login", lab.url, "--profile", "file", "--token-file", tokenFile])).code).toBe(0);
    const good = readFileSync(tokenFile, "utf8");
    writeFileSync(tokenFile, issuer.token({ groups: ["web"], exp: 1_000 }));
    const late = await run(["vm", "ls"]);
    expect([late.code, late.err]).toEqual([1, expect.stringContaining("has expired")]);
    writeFileSync(tokenFile, good);
    expect((await run(["vm", "ls"])).code).toBe(0);
  });

  it("keeps nothing of a command that gives no good token, and tells why", async () => {
    const before = readFileSync(join(home, ".config/mig/profiles.yaml"), "utf8");
    const login = (...args: string[]) => run(["login", lab.url, ...args]);
    for (const [command, code, told] of [
      [
        "echo you are not logged in >&2; exit 3",
        2,
        "you are not logged in\nmigctl: the token command ended with 3",
      ],
      ["echo two words", 2, "does not hold one token"],
      ["true", 2, "does not hold one token"],
      ["/no/such/program", 2, "ended with 127"],
      ["head -c 100000 /dev/zero | tr '\\0' a", 2, "printed more than a token"],
      ["echo not.a.token", 1, "the controller refused"],
    ] as const) {
      const said = await login("--token-command", command);
      expect([command, said.code, said.err]).toEqual([command, code, expect.stringContaining(told)]);
    }
    expect((await login("--token-command", "true", "--token-file", tokenFile)).code).toBe(2);
    expect((await login("--token-file", join(dir, "none"))).code).toBe(2);
    expect(readFileSync(join(home, ".config/mig/profiles.yaml"), "utf8")).toBe(before);
  });
});

it("a command that hangs is ended in time, with what it has started", async () => {
  const script = join(dir, "hang");
  const pidFile = join(dir, "pid");
  writeFileSync(
    script,
    `#!/bin/sh\nsleep 300 &\necho $! > '${pidFile}.new'\nmv '${pidFile}.new' '${pidFile}'\nwait\n`,
  );
  chmodSync(script, 0o755);
  const stop = new AbortController();
  const stopped = expect(runTokenCommand(`'${script}'; true`, stop.signal)).rejects.toThrow(
    "was interrupted",
  );
  await waitFor("its child to run", () => existsSync(pidFile));
  stop.abort();
  await stopped;
  const pid = Number(readFileSync(pidFile, "utf8"));
  await waitFor("its child to be gone", () => !isRunning(pid));
  await expect(runTokenCommand("sleep 300", never, 100)).rejects.toThrow("took longer than 0.1 s");
});

/** A process that has ended and that nobody has asked about yet is a zombie. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
