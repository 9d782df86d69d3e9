import { retiredKeys, settingKeys } from "./settings-table.ts";

/** What one document says: settings by their dotted keys, or why it cannot be read. */
export interface YamlSettings {
  readonly found: ReadonlyMap<string, unknown>;
  readonly problems: readonly { readonly where: string; readonly message: string }[];
}

export interface YamlShape {
  /** What the top level holds; answers the part with the settings, or undefined when there is none. */
  pick?(top: Readonly<Record<string, unknown>>): unknown;
}

/**
 * Settings of a YAML document, nested keys joined with dots. Total: whatever the text is, it gives settings or
 * problems. The parser is loaded when the first document comes, because a VM that has none should not hold it.
 */
export async function readYamlSettings(content: string, { pick }: YamlShape = {}): Promise<YamlSettings> {
  const found = new Map<string, unknown>();
  const broken = (where: string, message: string): YamlSettings => ({
    found: new Map(),
    problems: [{ where, message }],
  });
  let top: unknown;
  try {
    const { parseDocument } = await import("yaml");
    const document = parseDocument(content, { logLevel: "silent" });
    if (document.errors.length > 0)
      return {
        found,
        problems: document.errors.map(({ linePos, code }) => ({
          where: `line ${linePos?.[0].line ?? "?"}`,
          message: `is not YAML (${code}): correct it`,
        })),
      };
    top = document.toJS({ maxAliasCount: 10 });
  } catch {
    // Aliases that multiply, or more depth than any settings have.
    return broken(
      "",
      "is YAML that cannot be unfolded: write the settings without aliases, at most three deep",
    );
  }
  if (top === null || top === undefined) return { found, problems: [] };
  if (!isMap(top)) return broken("", "is not a YAML map: write settings as `key: value`");
  const settings = pick === undefined ? top : pick(top);
  if (settings === null || settings === undefined) return { found, problems: [] };
  if (!isMap(settings))
    return broken("", "holds no map of settings: write `miglet:` and the settings below it");
  let isTooDeep = false;
  const flatten = (value: unknown, key: string, depth: number): void => {
    if (value === null || value === undefined || found.size > keysMax) return;
    if (depth > depthMax) isTooDeep = true;
    else if (isMap(value) && !isKnown(key))
      for (const [name, inner] of Object.entries(value))
        flatten(inner, key === "" ? name : `${key}.${name}`, depth + 1);
    else found.set(key, value);
  };
  flatten(settings, "", 0);
  return isTooDeep
    ? broken("", `has keys more than ${depthMax} deep: no setting is`)
    : { found, problems: [] };
}

const depthMax = 8;
const keysMax = 1_000;

const known = new Set<string>([...settingKeys, ...retiredKeys]);
const isKnown = (key: string): boolean => known.has(key);

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
