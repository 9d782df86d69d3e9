import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readMetadataName, readNamedSettings, readUserData } from "../src/boot/metadata-names.ts";
import { readSettings } from "../src/boot/settings.ts";
import { retiredKeys, settingKeys } from "../src/boot/settings-table.ts";
import { renderProblems, renderSettings } from "../src/boot/show.ts";

const noFlags = { settings: new Map<string, string>() };

describe("names in metadata", () => {
  it("each setting has its own in each cloud's alphabet", () => {
    const keys = [...settingKeys, ...retiredKeys];
    const dashed = keys.map((key) => `miglet-${key.replaceAll(/[._]/g, "-")}`);
    expect(new Set(dashed).size).toBe(keys.length);
    for (const [at, key] of keys.entries())
      for (const name of [
        dashed[at] ?? "",
        `miglet.${key}`,
        `MIGLET_${key.toUpperCase().replaceAll(".", "_")}`,
      ])
        expect(readMetadataName(name)).toEqual({ is: "setting", key });
  });

  it.each(["startup-script", "migletX", "Name", "miglet", "miglet-install-sha256"])(
    "%s is foreign",
    (name) => {
      expect(readMetadataName(name)).toEqual({ is: "foreign" });
    },
  );

  it("one that is nobody's is a problem with the nearest, as in the file", async () => {
    const named = new Map([
      ["miglet-pool-idd", "p"],
      ["miglet-", "x"],
      ["miglet-metadata-endpoint", "http://elsewhere"],
      ["miglet-storage-mongodb-enabled", "true"],
    ]);
    const said = await readNamedSettings(named, "the tag");
    const { problems, warnings } = await readSettings({
      flags: noFlags,
      environment: {},
      metadata: () => Promise.resolve(said),
    });
    const text = renderProblems(problems);
    expect(text).toContain("pool-idd: is no setting. Did you mean pool_id?");
    expect(text).toContain("(the tag miglet-pool-idd)");
    expect(text).toContain("miglet-: is no setting");
    expect(text).toMatch(/metadata\.endpoint: says how metadata is read, so metadata cannot set it/);
    expect(warnings.join()).toContain("storage.mongodb.enabled (the tag miglet-storage-mongodb-enabled)");
  });

  it("a single name wins over the document, an empty one is not set", async () => {
    const { given, problems } = await readNamedSettings(
      new Map([
        ["miglet-pool-id", "single"],
        ["miglet-config", "pool_id: document\norg_id: acme\ngithub: { labels: [a, b] }"],
        ["miglet-vm-id", " "],
      ]),
      "the tag",
    );
    expect(problems).toEqual([]);
    expect(given.map(({ key, raw }) => [key, raw])).toEqual([
      ["pool_id", "document"],
      ["org_id", "acme"],
      ["github.labels", ["a", "b"]],
      ["pool_id", "single"],
    ]);
  });
});

describe("user data", () => {
  const read = async (text: string | Buffer) => {
    const { given, problems } = await readUserData(Buffer.from(text));
    return { keys: given.map(({ key }) => key), problems };
  };
  it.each([
    ["below miglet", "miglet:\n  pool_id: p\nother: 1\n", ["pool_id"]],
    ["as a whole", "pool_id: p\ncontroller: { endpoint: http://c }\n", ["pool_id", "controller.endpoint"]],
    ["in a cloud-config", "#cloud-config\npackages: [jq]\nmiglet: { pool_id: p }\n", ["pool_id"]],
    ["with a BOM", "\uFEFFpool_id: p\n", ["pool_id"]],
  ])("ours %s", async (_, text, keys) => {
    expect(await read(text)).toEqual({ keys, problems: [] });
  });

  it.each([
    ["nothing", ""],
    ["a script", "#!/bin/bash\ncontroller: x\n"],
    ["a script about us", "#!/bin/sh\nmiglet: run\n"],
    ["MIME", "Content-Type: multipart/mixed; boundary=x\n\npool_id: p\n"],
    [
      "a cloud-config",
      "#cloud-config\nwrite_files:\n  - path: /etc/miglet/miglet.yaml\n    content: |\n      pool_id: p\n",
    ],
    ["a cloud-config with our keys at its top", "#cloud-config\npool_id: p\n"],
    ["gzip", Buffer.from([0x1f, 0x8b, 8, 0, 0, 1, 2])],
    ["somebody's YAML", "users: [a]\nruncmd: [[ls]]\n"],
    ["an empty miglet", "miglet:\n"],
  ])("%s is not ours and no problem", async (_, text) => {
    expect(await read(text)).toEqual({ keys: [], problems: [] });
  });

  it.each([
    ["broken", "miglet: [\n", /is not YAML/],
    ["with a list", "miglet: [a]\n", /no map of settings/],
    [
      "with aliases that multiply",
      `a: &a [x,x]\n${"b: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"}pool_id: p\n`,
      /aliases/,
    ],
    ["that is its own inside", "miglet: &m { runner: *m }\n", /deep|unfolded/],
  ])("%s is a problem with its place", async (_, text, message) => {
    const { problems } = await read(text);
    expect(problems[0]?.message).toMatch(message);
    expect(problems[0]?.source).toMatch(/the user data/);
  });

  const ofOurs = fc
    .tuple(fc.constantFrom("miglet:\n ", "pool_id:", "#cloud-config\nmiglet: ", "controller: "), fc.string())
    .map(([start, rest]) => Buffer.from(start + rest));
  const nested = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.jsonValue(),
      fc.dictionary(
        fc.constantFrom(
          ...settingKeys,
          "miglet",
          "toString",
          "__proto__",
          "constructor",
          "valueOf",
          "runner",
        ),
        tie("value"),
      ),
    ),
  })).value;

  it("whatever the bytes are, they give settings or problems, and the whole can be shown", async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
      ofOurs,
      nested.map((value) => Buffer.from(JSON.stringify({ miglet: value }))),
    );
    const named = fc.dictionary(
      fc.oneof(
        fc.string(),
        fc.constantFrom(...settingKeys).map((key) => `miglet-${key.replaceAll(/[._]/g, "-")}`),
        fc.constant("miglet-config"),
      ),
      fc.oneof(
        fc.string(),
        nested.map((value) => JSON.stringify(value) ?? ""),
      ),
    );
    await fc.assert(
      fc.asyncProperty(bytes, named, async (content, tags) => {
        const parts = [
          await readUserData(content),
          await readNamedSettings(new Map(Object.entries(tags)), "the tag"),
        ];
        const read = await readSettings({
          flags: noFlags,
          environment: {},
          metadata: () =>
            Promise.resolve({
              given: parts.flatMap(({ given }) => given),
              problems: parts.flatMap(({ problems }) => problems),
            }),
        });
        expect(read.settings === undefined).toBe(read.problems.length > 0);
        expect(renderProblems(read.problems)).toContain("miglet cannot start");
        if (read.settings !== undefined) renderSettings(read.settings, read, true);
        expect({}).not.toHaveProperty("polluted");
      }),
      { numRuns: 400 },
    );
  });
});
