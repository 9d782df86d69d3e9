import { type Api, openApi } from "./api.ts";
import { type Credential, tokenSourceOf } from "./credential.ts";
import { readProfiles } from "./profiles.ts";
import { UsageError } from "./verb.ts";

export interface Target {
  profile: string | undefined;
  url: string | undefined;
  tokenFile: string | undefined;
}

const urlDefault = "http://127.0.0.1:8080";

/** Options win over the environment, and that over the profile. */
export async function connect({ profile: name, url, tokenFile }: Target, signal: AbortSignal): Promise<Api> {
  const { current, all } = await readProfiles();
  const wanted = name ?? current;
  const profile = wanted === undefined ? undefined : all[wanted];
  if (name !== undefined && profile === undefined)
    throw new UsageError(`there is no profile "${name}"; make it with: migctl login URL --profile ${name}`);
  const said = url ?? (process.env["MIG_URL"] || undefined);
  // The key of one controller is shown to no other.
  const own = said === undefined || said === profile?.url ? profile?.credential : undefined;
  const key = process.env["MIG_API_KEY"] || undefined;
  const credential: Credential | undefined =
    tokenFile !== undefined ? { tokenFile } : key !== undefined ? { key } : own;
  return openApi({
    url: said ?? profile?.url ?? urlDefault,
    token: tokenSourceOf(credential, signal),
    signal,
  });
}
