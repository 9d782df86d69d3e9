import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

/** The repository tests itself: who imports whom, who reads the environment, what the documents promise. */
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tracked = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((path) => path !== "" && existsSync(join(root, path)));
const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Who may import whom. Read it as the one picture of the repository. */
const mayImport: Record<string, readonly string[]> = {
  "packages/protocol": [],
  "packages/kit": [],
  "packages/lifecycle": ["protocol"],
  "packages/sandbox": ["protocol", "lifecycle", "kit"],
  "packages/api-client": [],
  "apps/controller": ["protocol", "lifecycle", "kit"],
  "apps/miglet": ["protocol", "lifecycle", "kit"],
  "apps/cli": ["protocol", "lifecycle", "kit", "sandbox", "api-client"],
};

/** Inside an app a folder (or file) imports only what stands to its right; those in one bracket do not meet. */
const order: Record<string, readonly (readonly string[])[]> = {
  "apps/controller": [
    ["main"],
    ["controller"],
    ["listen"],
    ["session", "feed"],
    ["life"],
    ["join", "boot", "runner", "jobs", "heartbeat", "shutdown", "fleet"],
    ["identity", "operator", "diagnostics"],
    ["events", "commands", "audit"],
    ["context"],
    ["bus", "github", "secrets"],
    ["store"],
    ["config"],
  ],
  "apps/miglet": [
    ["main"],
    ["miglet"],
    ["perform"],
    ["hands"],
    ["keep-runner", "keep-link", "keep-local"],
    ["status"],
    ["life"],
    ["shutdown", "local", "diagnostics"],
    ["boot"],
    ["link", "runner", "heartbeat"],
    ["memory"],
  ],
};

interface Import {
  from: string;
  to: string;
  isType: boolean;
}

const sources = tracked.filter(
  (path) => /^(?:packages|apps)\/[^/]+\/src\/.*\.ts$/.test(path) && !path.includes("/gen/"),
);
const program = (path: string): boolean => !path.endsWith(".test.ts");
const imports: Import[] = sources.flatMap((from) =>
  [...read(from).matchAll(/^(?:import|export)\s+(type\s+)?(?:[^;'"]*?\sfrom\s+)?"([^"]+)";/gms)].map(
    (match) => ({
      from,
      to: match[2] ?? "",
      isType: match[1] !== undefined,
    }),
  ),
);

describe("who may import whom", () => {
  it("holds between packages", () => {
    const wrong = imports.flatMap(({ from, to }) => {
      const home = from.split("/").slice(0, 2).join("/");
      const wanted = /^@mig\/([a-z-]+)/.exec(to)?.[1];
      if (wanted === undefined || home === `packages/${wanted}`) return [];
      if (!program(from) && wanted === "sandbox") return [];
      return mayImport[home]?.includes(wanted)
        ? []
        : [`${from} imports ${to}; ${home} may import ${mayImport[home]?.join(", ")}`];
    });
    expect(wrong).toEqual([]);
  });

  it("every import of a package is declared by the package", () => {
    const wrong = imports.flatMap(({ from, to }) => {
      if (to.startsWith(".") || to.startsWith("node:") || !program(from)) return [];
      const home = from.split("/").slice(0, 2).join("/");
      const name = to.startsWith("@") ? to.split("/").slice(0, 2).join("/") : (to.split("/")[0] ?? to);
      const manifest = JSON.parse(read(`${home}/package.json`)) as {
        name: string;
        dependencies?: Record<string, string>;
      };
      return name === manifest.name || manifest.dependencies?.[name] !== undefined
        ? []
        : [`${from} imports ${to}`];
    });
    expect(wrong).toEqual([]);
  });

  for (const [app, ranks] of Object.entries(order)) {
    it(`holds inside ${app}`, () => {
      const rankOf = (room: string): number => ranks.findIndex((rank) => rank.includes(room));
      const wrong = imports.flatMap(({ from, to }) => {
        if (!from.startsWith(`${app}/src/`) || !to.startsWith(".") || !program(from)) return [];
        const roomOf = (path: string): string => (path.split("/")[3] ?? "").replace(/\.ts$/, "");
        const here = roomOf(from);
        const there = roomOf(normalize(join(dirname(from), to)));
        if (here === there) return [];
        if (rankOf(here) < 0 || rankOf(there) < 0) return [`${from} or ${to} is in no room of the table`];
        return rankOf(there) > rankOf(here)
          ? []
          : [`${from} imports ${to}: ${there} does not stand to the right of ${here}`];
      });
      expect(wrong).toEqual([]);
    });
  }
});

describe("what stays pure", () => {
  const pure = sources.filter(
    (path) =>
      program(path) && (path.startsWith("packages/lifecycle/") || /\/src\/life(?:\.ts|\/)/.test(path)),
  );
  it.each(pure)("%s reads no clock, no dice and no machine", (path) => {
    expect(read(path)).not.toMatch(
      /Date\.now|new Date\(\)|Math\.random|performance\.now|process\.\w|from "node:/,
    );
  });
  it("the agent's life.ts imports types and rules only", () => {
    const wrong = imports.filter(
      ({ from, to, isType }) =>
        from === "apps/miglet/src/life.ts" && !isType && to.startsWith(".") && !to.startsWith("./life"),
    );
    expect(wrong).toEqual([]);
  });
});

it("the environment is read in one place of each app", () => {
  const readers = ["apps/controller/src/config/env.ts", "apps/miglet/src/boot/settings.ts"];
  const wrong = sources
    .filter((path) => /^apps\/(?:controller|miglet)\//.test(path) && program(path) && !readers.includes(path))
    .filter((path) => /process\.env/.test(read(path)));
  expect(wrong).toEqual([]);
});

it("only main.ts ends a process", () => {
  const wrong = sources.filter(
    (path) =>
      /^apps\/(?:controller|miglet)\//.test(path) &&
      !/\/main\.ts$/.test(path) &&
      /process\.exit/.test(read(path)),
  );
  expect(wrong).toEqual([]);
});

it("no file is named for nothing in particular", () => {
  expect(
    tracked.filter((path) => /(?:^|[/-])(?:utils?|helpers?|common|manager|service)\.(?:ts|mjs)$/.test(path)),
  ).toEqual([]);
});

it("no tracked file holds a secret, a path of somebody's machine or a registry's host", () => {
  const found = tracked
    .filter((path) => !/\.png$/.test(path) && path !== "tests/tidy.test.ts")
    .flatMap((path) => {
      const text = read(path);
      const hits = [
        /-----BEGIN (?:RSA )?PRIVATE KEY-----\n[A-Za-z0-9+/]/,
        /\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9]{36,}/,
        /(?:^|[\s"'`(=])\/(?:root|work|home\/[a-z]+)\/[a-z]/m,
        /registry\.npmjs\.org|deb\.debian\.org/,
      ].filter((pattern) => pattern.test(text));
      return hits.length === 0 ? [] : [`${path}: ${hits.map(String).join(", ")}`];
    });
  expect(found).toEqual([]);
});

it("links between documents lead somewhere", () => {
  const dead = tracked
    .filter((path) => path.endsWith(".md"))
    .flatMap((path) =>
      [...read(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].flatMap((match) => {
        const target = match[1] ?? "";
        if (/^[a-z]+:/.test(target)) return [];
        const at = relative(root, join(root, dirname(path), target));
        return existsSync(join(root, at)) ? [] : [`${path} → ${target}`];
      }),
    );
  expect(dead).toEqual([]);
});

it("ARCHITECTURE.md and the READMEs name files that exist", () => {
  const missing = tracked
    .filter((path) =>
      /(?:^|\/)(?:README|ARCHITECTURE|CONTRIBUTING)\.md$|^docs\/(?:flows|decisions|operate|checklists)\//.test(
        path,
      ),
    )
    .flatMap((path) =>
      [
        ...read(path).matchAll(/`((?:apps|packages|tests|proto|docs|scripts|bench)\/[A-Za-z0-9_./-]+)`/g),
      ].flatMap((match) => (existsSync(join(root, match[1] ?? "")) ? [] : [`${path} names ${match[1]}`])),
    );
  expect(missing).toEqual([]);
});

it("every setting is documented, and nothing else is", () => {
  execFileSync(process.execPath, ["scripts/document-settings.mjs", "--check"], { cwd: root, stdio: "pipe" });
});

it("the generated code is what proto/ says", () => {
  const out = mkdtempSync(join(tmpdir(), "mig-gen-"));
  try {
    execFileSync(join(root, "node_modules/.bin/buf"), ["generate", "-o", out], { cwd: root });
    const made = readFileSync(join(out, "packages/protocol/src/gen/miglet/commands.ts"), "utf8");
    expect(made).toBe(read("packages/protocol/src/gen/miglet/commands.ts"));
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
