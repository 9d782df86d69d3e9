import { asObject, maybe, readText } from "@mig/protocol";
import { toFact } from "./cloud-facts.ts";
import type { CloudReading } from "./gcp-metadata.ts";
import { readMetadataName, readNamedSettings, readUserData } from "./metadata-names.ts";
import type { MetadataAnswer, MetadataService } from "./metadata-request.ts";

/** Session tokens of IMDSv2. Version 1 is never used: it answers to whoever makes the machine fetch a URL. */
export interface AwsSession {
  ask(path: string, timeoutMs: number, signal?: AbortSignal): Promise<MetadataAnswer>;
}

/** Six hours, the longest that the service gives. */
const tokenSeconds = 21_600;

/** A token is asked for when there is none, and again when the service does not know it any more. */
export function openAwsSession(service: MetadataService): AwsSession {
  let token: Promise<MetadataAnswer> | undefined;
  const renew = (timeoutMs: number, signal: AbortSignal | undefined): Promise<MetadataAnswer> => {
    const asked = askAwsToken(service, timeoutMs, signal).then((answer) => {
      if (answer.status !== 200 && token === asked) token = undefined;
      return answer;
    });
    token = asked;
    return asked;
  };
  const ask = async (
    path: string,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    isAgain: boolean,
  ): Promise<MetadataAnswer> => {
    const used = token ?? renew(timeoutMs, signal);
    const given = await used;
    if (given.status !== 200) return given;
    const answer = await service.ask({
      path,
      headers: { "X-aws-ec2-metadata-token": given.body.toString("latin1") },
      timeoutMs,
      ...maybe("signal", signal),
    });
    if (answer.status !== 401 || isAgain) return answer;
    if (token === used) token = undefined;
    return ask(path, timeoutMs, signal, true);
  };
  return { ask: (path, timeoutMs, signal) => ask(path, timeoutMs, signal, false) };
}

export async function askAwsToken(
  service: MetadataService,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<MetadataAnswer> {
  const answer = await service.ask({
    method: "PUT",
    path: "/latest/api/token",
    headers: { "X-aws-ec2-metadata-token-ttl-seconds": String(tokenSeconds) },
    timeoutMs,
    ...maybe("signal", signal),
  });
  if (answer.status !== 200 || /^[!-~]{1,1024}$/.test(answer.body.toString("latin1"))) return answer;
  return { ...answer, status: 0, why: "what answers there gives no IMDSv2 token" };
}

export async function readAwsMetadata(service: MetadataService, timeoutMs: number): Promise<CloudReading> {
  const session = openAwsSession(service);
  const silences: string[] = [];
  const ask = async (path: string): Promise<Buffer | undefined> => {
    const { status, body, why } = await session.ask(`/latest/${path}`, timeoutMs);
    if (status === 200) return body;
    // Not found: tags are not enabled, or nobody gave user data.
    if (status !== 404) silences.push(`${path}: ${why ?? `HTTP ${status}`}`);
    return undefined;
  };
  const [identity, userData, tags, hostname, lifeCycle] = await Promise.all([
    ask("dynamic/instance-identity/document"),
    ask("user-data"),
    readTags(ask),
    ask("meta-data/local-hostname"),
    ask("meta-data/instance-life-cycle"),
  ]);
  const said = readIdentity(identity);
  const settings = [
    await readUserData(userData ?? Buffer.alloc(0)),
    await readNamedSettings(tags, "the tag"),
  ];
  return {
    given: settings.flatMap(({ given }) => given),
    problems: settings.flatMap(({ problems }) => problems),
    ...maybe("silence", silences[0]),
    facts: {
      cloud: "aws",
      ...maybe("instanceId", said("instanceId")),
      ...maybe("instanceName", toFact(tags.get("Name"))),
      ...maybe("hostname", toFact(hostname?.toString("utf8"))),
      ...maybe("zone", said("availabilityZone")),
      ...maybe("machineType", said("instanceType")),
      ...maybe("isSpot", lifeCycle === undefined ? undefined : lifeCycle.toString("utf8").trim() === "spot"),
    },
  };
}

/** Of ours, and the Name; an instance has at most 50 tags. */
async function readTags(
  ask: (path: string) => Promise<Buffer | undefined>,
): Promise<ReadonlyMap<string, string>> {
  const list = (await ask("meta-data/tags/instance"))?.toString("utf8") ?? "";
  const names = list
    .split("\n")
    .map((name) => name.trim())
    .filter((name) => name === "Name" || readMetadataName(name).is !== "foreign")
    // The characters that a tag must keep to when instances may read it; none needs escaping in a path.
    .filter((name) => /^[\w+\-=.,:@]+$/.test(name))
    .slice(0, 50);
  const values = await Promise.all(
    names.map(async (name) => {
      const value = await ask(`meta-data/tags/instance/${name}`);
      return value === undefined ? [] : [[name, value.toString("utf8")] as const];
    }),
  );
  return new Map(values.flat());
}

function readIdentity(body: Buffer | undefined): (key: string) => string | undefined {
  let document: ReturnType<typeof asObject>;
  try {
    document = asObject(JSON.parse(body?.toString("utf8") ?? "null"));
  } catch {
    // Facts are for people; without them the agent is no worse.
  }
  return (key) => (document === undefined ? undefined : toFact(readText(document, key)));
}
