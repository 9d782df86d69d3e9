import { readYamlSettings } from "./read-yaml.ts";
import { retiredKeys, settingKeys } from "./settings-table.ts";

/**
 * How attributes (GCP) and tags (AWS) name settings. A name is ours when it begins with `miglet-`, `miglet.` or
 * `miglet_`, in any case; of what follows `-`, `.` and `_` are one, so that each setting can be named in each
 * cloud's alphabet: `miglet-controller-auth-token-path` is controller.auth.token_path. `miglet-config` holds a whole
 * YAML document of settings. What begins with `miglet-install-` belongs to the scripts that install the agent.
 * Any other name that is ours must be a setting; a wrong one is a problem, as it is in the file.
 */
export type NamedByMetadata =
  | { readonly is: "setting"; readonly key: string }
  | { readonly is: "document" }
  | { readonly is: "foreign" };

const ours = /^miglet[-._]/i;
const plain = (name: string): string => name.toLowerCase().replaceAll(/[._]/g, "-");
const keyByName = new Map([...settingKeys, ...retiredKeys].map((key) => [plain(key), key]));

export function readMetadataName(name: string): NamedByMetadata {
  if (!ours.test(name)) return { is: "foreign" };
  const rest = name.slice("miglet-".length);
  const wanted = plain(rest);
  if (wanted === "config") return { is: "document" };
  if (wanted.startsWith("install-")) return { is: "foreign" };
  // One that nobody knows keeps its own spelling, so that the complaint about it can be found again.
  return { is: "setting", key: keyByName.get(wanted) ?? (rest === "" ? name : rest) };
}

/** One value from metadata; `source` is how a person would name the place. */
export interface GivenByMetadata {
  readonly key: string;
  readonly raw: unknown;
  readonly source: string;
}

export interface MetadataSettings {
  /** The weakest first. */
  readonly given: readonly GivenByMetadata[];
  readonly problems: readonly { readonly key: string; readonly source: string; readonly message: string }[];
}

/** `place` names one of them: "the instance attribute", "the tag". */
export async function readNamedSettings(
  named: ReadonlyMap<string, string>,
  place: string,
): Promise<MetadataSettings> {
  const singles: GivenByMetadata[] = [];
  const documents: MetadataSettings[] = [];
  for (const [name, value] of named) {
    const meaning = readMetadataName(name);
    const source = `${place} ${name}`;
    if (meaning.is === "document") documents.push(await readDocument(value, source));
    // As with variables: an empty one is one that is not set.
    else if (meaning.is === "setting" && value.trim() !== "")
      singles.push({ key: meaning.key, raw: value, source });
  }
  return {
    given: [...documents.flatMap(({ given }) => given), ...singles],
    problems: documents.flatMap(({ problems }) => problems),
  };
}

/**
 * User data is one text for everybody who boots. Ours is a YAML map with the key `miglet`, or a map that has pool_id,
 * vm_id or controller at its top. A script, MIME, gzip, or a `#cloud-config` without that key is somebody else's.
 */
export async function readUserData(content: Buffer): Promise<MetadataSettings> {
  const nothing: MetadataSettings = { given: [], problems: [] };
  if (content.length === 0 || content.subarray(0, 4_096).includes(0) || content[0] === 0x1f) return nothing;
  const text = content.toString("utf8").replace(/^\uFEFF/, "");
  const [firstLine = ""] = text.split("\n", 1);
  const isCloudConfig = /^#cloud-config\s*$/.test(firstLine);
  if (!isCloudConfig && foreignStart.test(firstLine)) return nothing;
  const mentionsUs = /^(?:miglet|pool_id|vm_id|controller)\s*:/m.test(text);
  if (!mentionsUs) return nothing;
  return readDocument(text, "the user data", (top) => {
    if (Object.hasOwn(top, "miglet")) return top["miglet"] ?? {};
    if (isCloudConfig || !["pool_id", "vm_id", "controller"].some((key) => Object.hasOwn(top, key)))
      return undefined;
    return top;
  });
}

/** What cloud-init takes besides YAML ("User data formats"). */
const foreignStart =
  /^(?:#!|#include|#cloud-boothook|#part-handler|#upstart-job|#cloud-config-|## template:|content-type:|mime-version:|from )/i;

async function readDocument(
  content: string,
  source: string,
  pick?: (top: Readonly<Record<string, unknown>>) => unknown,
): Promise<MetadataSettings> {
  const { found, problems } = await readYamlSettings(content, pick === undefined ? {} : { pick });
  return {
    given: [...found].map(([key, raw]) => ({ key, raw, source })),
    problems: problems.map(({ where, message }) => ({
      key: "miglet-config",
      source: where === "" ? source : `${where} of ${source}`,
      message,
    })),
  };
}
