import { maybe } from "@mig/protocol";
import { type CloudFacts, lastPart, toFact } from "./cloud-facts.ts";
import { type MetadataSettings, readMetadataName, readNamedSettings } from "./metadata-names.ts";
import type { MetadataAnswer, MetadataService } from "./metadata-request.ts";

/** What the metadata of one machine came to. */
export interface CloudReading extends MetadataSettings {
  readonly facts: CloudFacts;
  /** Something that settings may be in could not be asked, and why. */
  readonly silence?: string;
}

export const gcpHeaders = { "Metadata-Flavor": "Google" };

/** One question. An answer without Google's mark is somebody else's, and so none. */
export async function askGcp(
  service: MetadataService,
  path: string,
  timeoutMs: number,
  more: { readonly signal?: AbortSignal; readonly attemptsMax?: 1 | 2 } = {},
): Promise<MetadataAnswer> {
  const answer = await service.ask({
    path: `/computeMetadata/v1/${path}`,
    headers: gcpHeaders,
    timeoutMs,
    ...more,
  });
  if (answer.status === 0 || answer.headers["metadata-flavor"] === "Google") return answer;
  return { ...answer, status: 0, why: "what answers there is not Google's metadata service" };
}

export async function readGcpMetadata(service: MetadataService, timeoutMs: number): Promise<CloudReading> {
  const fact = async (path: string): Promise<string | undefined> => {
    const { status, body } = await askGcp(service, `instance/${path}`, timeoutMs);
    return status === 200 ? body.toString("utf8") : undefined;
  };
  const [project, instance, id, name, hostname, zone, type, preemptible] = await Promise.all([
    readAttributes(service, "project", timeoutMs),
    readAttributes(service, "instance", timeoutMs),
    ...["id", "name", "hostname", "zone", "machine-type", "scheduling/preemptible"].map(fact),
  ]);
  const settings = [
    await readNamedSettings(project.values, "the project attribute"),
    await readNamedSettings(instance.values, "the instance attribute"),
  ];
  return {
    given: settings.flatMap(({ given }) => given),
    problems: settings.flatMap(({ problems }) => problems),
    ...maybe("silence", project.silence ?? instance.silence),
    facts: {
      cloud: "gcp",
      ...maybe("instanceId", toFact(id)),
      ...maybe("instanceName", toFact(name)),
      ...maybe("hostname", toFact(hostname)),
      ...maybe("zone", lastPart(zone)),
      ...maybe("machineType", lastPart(type)),
      ...maybe("isSpot", preemptible === undefined ? undefined : /^true$/i.test(preemptible.trim())),
    },
  };
}

interface Attributes {
  readonly values: ReadonlyMap<string, string>;
  readonly silence?: string;
}

async function readAttributes(
  service: MetadataService,
  whose: "instance" | "project",
  timeoutMs: number,
): Promise<Attributes> {
  const answer = await askGcp(service, `${whose}/attributes/?recursive=true`, timeoutMs);
  if (answer.isTooLarge === true) return readOneByOne(service, whose, timeoutMs);
  if (answer.status === 404) return { values: new Map() };
  const all = answer.status === 200 ? parseObject(answer.body) : undefined;
  if (all === undefined)
    return {
      values: new Map(),
      silence: answer.why ?? `the ${whose} attributes were answered with ${answer.status} and no JSON`,
    };
  const values = Object.entries(all).flatMap(([name, value]) =>
    typeof value === "string" ? [[name, value] as const] : [],
  );
  return { values: new Map(values) };
}

/** Somebody's startup script is large; ours are small. */
async function readOneByOne(
  service: MetadataService,
  whose: "instance" | "project",
  timeoutMs: number,
): Promise<Attributes> {
  const list = await askGcp(service, `${whose}/attributes/`, timeoutMs);
  if (list.status !== 200) return { values: new Map(), silence: list.why ?? `HTTP ${list.status}` };
  const names = list.body
    .toString("utf8")
    .split("\n")
    .filter((name) => readMetadataName(name).is !== "foreign")
    .slice(0, attributesMax);
  const values = new Map<string, string>();
  let silence: string | undefined;
  await Promise.all(
    names.map(async (name) => {
      const one = await askGcp(service, `${whose}/attributes/${encodeURIComponent(name)}`, timeoutMs);
      if (one.status === 200) values.set(name, one.body.toString("utf8"));
      else silence = `${name}: ${one.why ?? `HTTP ${one.status}`}`;
    }),
  );
  return { values, ...maybe("silence", silence) };
}

const attributesMax = 200;

function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
