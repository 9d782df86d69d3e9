import { parseArgs } from "node:util";
import { nearest } from "@mig/kit";
import type { Api } from "./api.ts";
import { connect } from "./connect.ts";
import { type Io, UsageError, type Verb } from "./verb.ts";

/** An option as a verb declares it; its help, its parsing and its completion come from this. */
export interface Option {
  /** The word for its value; absent: a switch. */
  readonly takes?: string;
  /** The only values that it takes. */
  readonly oneOf?: readonly string[];
  /** One letter, for -o. */
  readonly short?: string;
  readonly help: string;
}

export interface Asked {
  readonly api: Api;
  readonly io: Io;
  /** What stands where the verb says, as VM. */
  readonly words: readonly string[];
  text(option: string): string | undefined;
  has(option: string): boolean;
}

export interface VerbSpec {
  readonly name: string;
  /** Words that must be given. */
  readonly words?: readonly string[];
  readonly about: string;
  readonly options?: Readonly<Record<string, Option>>;
  readonly examples: readonly [string, string];
  /** Where they are more than done, refused, wrong. */
  readonly exits?: string;
  run(asked: Asked): Promise<number>;
}

const common: Record<string, Option> = {
  profile: { takes: "NAME", help: "which controller (see migctl login)" },
  url: { takes: "URL", help: "the controller, instead of a profile" },
  "token-file": { takes: "FILE", help: "holds the API key" },
  json: { help: "what the controller answered, for programs" },
};

const exitsDefault = "0 done, 1 refused or not reached, 2 the command line is wrong";

/** A verb that asks a controller. */
export function apiVerb(spec: VerbSpec): Verb {
  const words = spec.words ?? [];
  const told = { ...spec.options, ...common };
  const options = Object.fromEntries(
    Object.entries(told).map(([name, { takes, short }]) => [
      name,
      {
        type: takes === undefined ? "boolean" : "string",
        ...(short === undefined ? {} : { short }),
      } as const,
    ]),
  );
  const read = (args: string[]) => {
    const { values, positionals } = parse(args, options, true);
    const more = positionals[words.length];
    const takes = words.length === 0 ? "no words besides its options" : words.join(" ");
    if (more !== undefined)
      throw new UsageError(`Unexpected argument "${more}": ${spec.name} takes ${takes}`);
    if (positionals.length < words.length) throw new UsageError(`${spec.name} takes ${takes}`);
    for (const [name, { oneOf }] of Object.entries(told)) {
      const value = values[name];
      if (oneOf !== undefined && typeof value === "string" && !oneOf.includes(value))
        throw new UsageError(`--${name} takes ${oneOf.join(", ")}`);
    }
    return { values, positionals };
  };
  return {
    name: spec.name,
    help: `${[...words, "[options]"].join(" ")}\n      ${spec.about}\n${linesOf(told)}      Exit codes: ${spec.exits ?? exitsDefault}.`,
    examples: spec.examples,
    options,
    check: (args) => void read(args),
    async run(args, io) {
      const { values, positionals } = read(args);
      const text = (name: string): string | undefined => {
        const value = values[name];
        return typeof value === "string" ? value : undefined;
      };
      const api = await connect(
        { profile: text("profile"), url: text("url"), tokenFile: text("token-file") },
        io.signal,
      );
      return spec.run({ api, io, words: positionals, text, has: (name) => values[name] === true });
    },
  };
}

export function linesOf(options: Readonly<Record<string, Option>>): string {
  const heads = Object.entries(options).map(([name, { takes, short, help }]): [string, string] => [
    `${short === undefined ? "" : `-${short}, `}--${name}${takes === undefined ? "" : ` ${takes}`}`,
    help,
  ]);
  const width = Math.max(...heads.map(([head]) => head.length));
  return heads.map(([head, help]) => `        ${head.padEnd(width)}  ${help}\n`).join("");
}

export function parse<Options extends Verb["options"]>(
  args: string[],
  options: Options,
  allowPositionals = false,
) {
  try {
    return parseArgs({ args, options, allowPositionals });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const unknown = /^Unknown option '(-[^']*)'/.exec(message)?.[1];
    if (unknown === undefined) throw new UsageError(message);
    const known = [...Object.keys(options), "help"].map((name) => `--${name}`);
    const guess = nearest(unknown, known);
    throw new UsageError(
      `there is no option ${unknown}; ${guess === undefined ? `there is ${known.join(", ")}` : `did you mean ${guess}?`}`,
    );
  }
}
