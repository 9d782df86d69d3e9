import { type JsonObject, maybe } from "@mig/protocol";

export const clouds = ["gcp", "aws"] as const;
export type Cloud = (typeof clouds)[number];

/** What the cloud says about this machine. None of it is proof: identity is DESIGN §7. */
export interface CloudFacts {
  readonly cloud: Cloud;
  readonly instanceId?: string;
  readonly instanceName?: string;
  readonly hostname?: string;
  readonly zone?: string;
  readonly machineType?: string;
  /** The cloud may take it away: preemptible or spot. */
  readonly isSpot?: boolean;
}

/** For the data of `vm_started`. */
export function describeCloud(facts: CloudFacts | undefined): JsonObject {
  if (facts === undefined) return {};
  return {
    cloud: facts.cloud,
    ...maybe("instance_id", facts.instanceId),
    ...maybe("instance_name", facts.instanceName),
    ...maybe("hostname", facts.hostname),
    ...maybe("zone", facts.zone),
    ...maybe("machine_type", facts.machineType),
    ...maybe("spot", facts.isSpot),
  };
}

/** A fact is one short line, or it is none. */
export function toFact(text: string | undefined): string | undefined {
  const trimmed = text?.trim();
  return trimmed !== undefined && /^[ -~]{1,256}$/.test(trimmed) ? trimmed : undefined;
}

/** "projects/123/zones/europe-west1-b" → "europe-west1-b". */
export function lastPart(path: string | undefined): string | undefined {
  return toFact(path?.slice(path.lastIndexOf("/") + 1));
}
