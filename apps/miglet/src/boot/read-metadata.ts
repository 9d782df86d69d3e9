import { maybe } from "@mig/protocol";
import { readAwsMetadata } from "./aws-metadata.ts";
import type { Cloud, CloudFacts } from "./cloud-facts.ts";
import { detectCloud } from "./detect-cloud.ts";
import { readGcpMetadata } from "./gcp-metadata.ts";
import type { MetadataSettings } from "./metadata-names.ts";
import { openMetadataService } from "./metadata-request.ts";

/** From the settings metadata.*, which metadata itself cannot set. */
export interface MetadataAccess {
  readonly source: "auto" | Cloud | "none";
  readonly endpoint: string;
  /** For one question; finding out whether there is a cloud takes no longer than this. */
  readonly timeoutMs: number;
  /** Where the firmware speaks; tests have their own. */
  readonly dmiDirectory?: string;
}

export interface Metadata extends MetadataSettings {
  /** Absent outside of a cloud. */
  readonly facts?: CloudFacts;
  /** What vm_id is when nobody says another: the instance's name on GCP, its id on AWS. */
  readonly vmId?: string;
  /** There should be a service, and what is set there is not known. It may answer later. */
  readonly silence?: { readonly cloud: Cloud; readonly why: string };
}

const noMetadata: Metadata = { given: [], problems: [] };

/** Asks the instance metadata of the cloud that this machine is in. Never rejects. */
export async function readMetadata(access: MetadataAccess): Promise<Metadata> {
  const { source, endpoint, timeoutMs } = access;
  if (source === "none") return noMetadata;
  const service = openMetadataService(endpoint);
  try {
    const cloud =
      source === "auto"
        ? (await detectCloud({ service, timeoutMs, ...maybe("dmiDirectory", access.dmiDirectory) }))?.cloud
        : source;
    if (cloud === undefined) return noMetadata;
    const { facts, silence, ...settings } = await (cloud === "gcp" ? readGcpMetadata : readAwsMetadata)(
      service,
      timeoutMs,
    );
    return {
      ...settings,
      facts,
      ...maybe("vmId", cloud === "gcp" ? facts.instanceName : facts.instanceId),
      ...maybe("silence", silence === undefined ? undefined : { cloud, why: silence }),
    };
  } finally {
    service.close();
  }
}
