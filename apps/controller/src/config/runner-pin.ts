import { asObject, readText } from "@mig/protocol";

/** The version of actions/runner that a pool's VMs run; an agent whose image has another one downloads this. */
export interface RunnerPin {
  version: string;
  /** Of the archive, by platform: linux-x64, linux-arm64. Without the one of its platform an agent downloads nothing. */
  sha256: Record<string, string>;
  /** In place of the agent's own template. */
  downloadUrl?: string;
}

const shape = 'is { version: 2.336.0, sha256: { linux-x64: "64 hexadecimal digits", … }, download_url: … }';

/** Undefined when there is none; `refuse` hears what is wrong with one. */
export function readRunnerPin(
  content: unknown,
  otherwise: RunnerPin | undefined,
  refuse: (rule: string) => void,
): RunnerPin | undefined {
  if (content === undefined || content === null) return otherwise;
  const from = asObject(content);
  const version = from === undefined ? undefined : readText(from, "version")?.replace(/^v/, "");
  const sums = asObject(from?.["sha256"] ?? {});
  if (from === undefined || version === undefined || sums === undefined) {
    refuse(`.runner ${shape}`);
    return otherwise;
  }
  const unknown = Object.keys(from).find((key) => !["version", "sha256", "download_url"].includes(key));
  if (unknown !== undefined) refuse(`.runner has a key "${unknown}" that is not known; it ${shape}`);
  if (!/^\d{1,4}\.\d{1,4}\.\d{1,6}$/.test(version))
    refuse(`.runner.version "${version.slice(0, 20)}" is no version; it is like 2.336.0 (in quotes)`);
  const sha256: Record<string, string> = {};
  for (const [platform, sum] of Object.entries(sums)) {
    if (!/^(?:linux|osx)-(?:x64|arm64|arm)$/.test(platform))
      refuse(
        `.runner.sha256 names a platform "${platform.slice(0, 20)}"; there are linux-x64 and linux-arm64`,
      );
    else if (typeof sum !== "string" || !/^[0-9a-f]{64}$/i.test(sum))
      refuse(`.runner.sha256.${platform} is not 64 hexadecimal digits`);
    else sha256[platform] = sum.toLowerCase();
  }
  const downloadUrl = readText(from, "download_url");
  if (downloadUrl !== undefined && !(URL.canParse(downloadUrl) && /^https?:/.test(downloadUrl)))
    refuse(".runner.download_url is no http or https URL");
  return { version, sha256, ...(downloadUrl === undefined ? {} : { downloadUrl }) };
}
