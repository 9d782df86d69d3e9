import { describe, expect, it } from "vitest";
import { parseCommandLine } from "./command-line.ts";

describe("the parser's quirks (runner-contract §2.2, §2.3)", () => {
  const parse = (line: string, environment: NodeJS.ProcessEnv = {}) =>
    parseCommandLine(line.split(" "), environment);

  it("takes the first word as command, and the first of doubled options, in any case", () => {
    const parsed = parse("CONFIGURE extra --Name a --name b");
    expect(parsed.command).toBe("configure");
    expect(parsed.argument("name")).toBe("a");
  });

  it("loses a flag that is followed by a value, without calling it unknown", () => {
    const parsed = parse("configure --ephemeral true --replace");
    expect(parsed.flag("ephemeral")).toBe(false);
    expect(parsed.flag("replace")).toBe(true);
    expect(parsed.unknown).toEqual([]);
  });

  it("drops a value that begins with a dash, and does not know --name=value", () => {
    const parsed = parse("configure --name -x --work=there");
    expect(parsed.argument("name")).toBeUndefined();
    expect(parsed.flag("name")).toBe(true);
    expect(parsed.unknown).toEqual(["work=there"]);
  });

  it("fills in from the environment, trimmed, and takes the variables out of it", () => {
    const environment = {
      ACTIONS_RUNNER_INPUT_TOKEN: " secret ",
      actions_runner_input_name: "from-env",
      "ACTIONS_RUNNER_INPUT_NO-DEFAULT-LABELS": "True",
      ACTIONS_RUNNER_INPUT_REPLACE: "yes",
      PATH: "/bin",
    };
    const parsed = parse("configure --name from-line", environment);
    expect(parsed.argument("token")).toBe("secret");
    expect(parsed.argument("name")).toBe("from-line");
    expect(parsed.flag("no-default-labels")).toBe(true);
    expect(parsed.flag("replace")).toBe(false);
    expect(environment).toEqual({ PATH: "/bin" });
  });
});
