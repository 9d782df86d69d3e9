import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { askAwsToken } from "./aws-metadata.ts";
import type { Cloud } from "./cloud-facts.ts";
import { askGcp } from "./gcp-metadata.ts";
import type { MetadataService } from "./metadata-request.ts";

export interface DetectedCloud {
  readonly cloud: Cloud;
  /** The firmware says so; otherwise the metadata service has answered. */
  readonly isByFirmware: boolean;
}

export interface DetectSettings {
  readonly service: MetadataService;
  /** For all of it. */
  readonly timeoutMs: number;
  readonly dmiDirectory?: string;
}

/**
 * Which cloud this is. The firmware tells without a question; one that names another vendor ends the search. Only
 * where it says nothing (containers, Xen) the two services are asked, both at once, within the time.
 */
export async function detectCloud(settings: DetectSettings): Promise<DetectedCloud | undefined> {
  const { service, timeoutMs, dmiDirectory = "/sys/class/dmi/id" } = settings;
  const firmware = await readFirmware(dmiDirectory);
  if (firmware !== "unknown")
    return firmware === "other" ? undefined : { cloud: firmware, isByFirmware: true };
  const over = new AbortController();
  const asked: readonly Promise<Cloud | undefined>[] = [
    askGcp(service, "instance/id", timeoutMs, { signal: over.signal }).then(({ status }) =>
      status === 200 ? "gcp" : undefined,
    ),
    askAwsToken(service, timeoutMs, over.signal).then(({ status }) => (status === 200 ? "aws" : undefined)),
  ];
  const cloud = await firstOf(asked);
  over.abort();
  return cloud === undefined ? undefined : { cloud, isByFirmware: false };
}

async function firstOf(asked: readonly Promise<Cloud | undefined>[]): Promise<Cloud | undefined> {
  const found = asked.map(async (one) => {
    const cloud = await one;
    if (cloud === undefined) throw new Error("none");
    return cloud;
  });
  return Promise.any(found).catch(() => undefined);
}

async function readFirmware(directory: string): Promise<Cloud | "other" | "unknown"> {
  const read = (name: string): Promise<string> =>
    readFile(join(directory, name), "utf8").then(
      (text) => text.trim(),
      () => "",
    );
  const [vendor = "", product = "", bios = "", asset = ""] = await Promise.all(
    ["sys_vendor", "product_name", "bios_vendor", "board_asset_tag"].map(read),
  );
  if (/^Google/.test(product) || vendor === "Google" || bios === "Google") return "gcp";
  if (/^Amazon EC2$/.test(vendor) || bios === "Amazon EC2" || /^i-[0-9a-f]{8,17}$/.test(asset)) return "aws";
  // EC2's older machines are Xen and say no more than that.
  return vendor === "" || vendor === "Xen" ? "unknown" : "other";
}
