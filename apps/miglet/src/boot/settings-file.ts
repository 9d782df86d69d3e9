import { readFile } from "node:fs/promises";
import type { SettingProblem } from "./judge-settings.ts";
import { readYamlSettings } from "./read-yaml.ts";

export interface SettingsFile {
  readonly path: string;
  readonly found: ReadonlyMap<string, unknown>;
  readonly problems: readonly SettingProblem[];
}

/** The YAML file of --config. */
export async function readSettingsFile(path: string | undefined): Promise<SettingsFile> {
  if (path === undefined) return { path: "", found: new Map(), problems: [] };
  const bad = (source: string, message: string): SettingProblem => ({ key: "--config", source, message });
  let content: string;
  try {
    content = await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "error";
    const message = `cannot be read (${code}): check the path and its permissions`;
    return { path, found: new Map(), problems: [bad(path, message)] };
  }
  const { found, problems } = await readYamlSettings(content);
  return {
    path,
    found,
    problems: problems.map(({ where, message }) => bad(where === "" ? path : `${where} of ${path}`, message)),
  };
}
