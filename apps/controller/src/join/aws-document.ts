import { createHash, type KeyObject, timingSafeEqual, verify, X509Certificate } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { ContentInfo, id_data, id_signedData, SignedData } from "@peculiar/asn1-cms";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";

/** What EC2 signed of an instance ("Instance identity documents"). */
export interface AwsInstance {
  readonly accountId: string;
  readonly region: string;
  readonly instanceId: string;
  readonly imageId: string;
  readonly pendingAtMs: number;
}

const documentBytesMax = 16 * 1024;
const sha256Oid = "2.16.840.1.101.3.4.2.1";
const contentTypeOid = "1.2.840.113549.1.9.3";
const messageDigestOid = "1.2.840.113549.1.9.4";

/**
 * Verifies the `rsa2048` form of an instance identity document: PKCS #7 SignedData (RFC 2315, RFC 5652) with the
 * document inside and no certificate, signed with SHA-256 by the key of a region's certificate. `keyOf` finds that for
 * the region that the document names; a document can name only regions that are pinned. Everything that is not exactly
 * so is refused: the older forms sign with SHA-1.
 */
export function readAwsDocument(
  base64: string,
  keyOf: (region: string) => readonly KeyObject[] | undefined,
): AwsInstance {
  const { content, signer } = parse(base64);
  const instance = readInstance(content);
  const keys = keyOf(instance.region);
  if (keys === undefined)
    throw new MigError(
      "forbidden",
      `no certificate of the region ${instance.region} is pinned here; add it to join.aws_certificates_file`,
    );
  const signed = understand(() => signedBytes(signer, content));
  const signature = Buffer.from(signer.signature.buffer);
  if (!keys.some((key) => verify("sha256", signed, key, signature)))
    throw refusal("its signature is not that of its region");
  return instance;
}

/** The library throws plain errors, of many kinds, for what is not as it expects. */
function understand<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof MigError ? error : refusal("it is not PKCS #7 in base64", error);
  }
}

type Signer = SignedData["signerInfos"][number];

function parse(base64: string): { content: Buffer; signer: Signer } {
  const text = base64.replaceAll(/\s|-----(?:BEGIN|END) PKCS7-----/g, "");
  const der = Buffer.from(text, "base64");
  if (text === "" || der.length > documentBytesMax) throw refusal("it is empty or too large");
  const signedData = understand(() => {
    const info = AsnConvert.parse(der, ContentInfo);
    if (info.contentType !== id_signedData) throw refusal("it is no SignedData");
    return AsnConvert.parse(info.content, SignedData);
  });
  const { encapContentInfo, signerInfos, digestAlgorithms } = signedData;
  const [signer, ...others] = signerInfos;
  if (signer === undefined || others.length > 0) throw refusal("it has not one signer");
  const digests = [signer.digestAlgorithm, ...digestAlgorithms];
  if (digests.some(({ algorithm }) => algorithm !== sha256Oid))
    throw refusal("it is not signed with SHA-256; send the rsa2048 form");
  const octets = encapContentInfo.eContent?.single;
  if (encapContentInfo.eContentType !== id_data || octets === undefined)
    throw refusal("it does not hold the document");
  return { content: Buffer.from(octets.buffer), signer };
}

/** The attributes when there are any (RFC 5652 §5.4), and then they must name this content; else the content itself. */
function signedBytes({ signedAttrs = [] }: Signer, content: Buffer): Buffer {
  if (signedAttrs.length === 0) return content;
  const attribute = (oid: string): ArrayBuffer => {
    const found = signedAttrs.filter(({ attrType }) => attrType === oid);
    const value = found[0]?.attrValues[0];
    if (found.length !== 1 || value === undefined || found[0]?.attrValues.length !== 1)
      throw refusal("its signed attributes are not as they must be");
    return value;
  };
  const digest = Buffer.from(AsnConvert.parse(attribute(messageDigestOid), OctetString).buffer);
  const expected = createHash("sha256").update(content).digest();
  if (digest.length !== expected.length || !timingSafeEqual(digest, expected))
    throw refusal("its signature is of another document");
  // The type is in the attributes too, so that content of another kind cannot be passed off as this.
  if (!Buffer.from(attribute(contentTypeOid)).equals(dataOid))
    throw refusal("its content is of another type");
  // What is signed is their DER, as a SET; sent they are under another tag, and perhaps in another order.
  const parts = signedAttrs.map((one) => Buffer.from(AsnConvert.serialize(one))).sort(Buffer.compare);
  const set = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([0x31, ...derLength(set.length)]), set]);
}

function derLength(length: number): number[] {
  return length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
}

/** id-data, 1.2.840.113549.1.7.1, in DER. */
const dataOid = Buffer.from("06092a864886f70d010701", "hex");

function readInstance(content: Buffer): AwsInstance {
  let document: Unknown | undefined;
  try {
    document = asObject(JSON.parse(content.toString("utf8")));
  } catch {
    // Told below.
  }
  const text = (key: string): string => (document === undefined ? "" : (readText(document, key) ?? ""));
  const instance = {
    accountId: text("accountId"),
    region: text("region"),
    instanceId: text("instanceId"),
    imageId: text("imageId"),
    pendingAtMs: Date.parse(text("pendingTime")),
  };
  const isWhole =
    /^\d{12}$/.test(instance.accountId) &&
    /^i-[0-9a-f]{8,20}$/.test(instance.instanceId) &&
    !Number.isNaN(instance.pendingAtMs);
  if (!isWhole) throw refusal("its content is no instance identity document");
  return instance;
}

/** Certificates in a PEM file, by region: each after a line `# eu-central-1`, with more than one where one follows another. */
export function readRegionCertificates(pem: string): ReadonlyMap<string, readonly KeyObject[]> {
  const keys = new Map<string, KeyObject[]>();
  for (const [, region = "", block = ""] of pem.matchAll(/^#\s*([a-z]{2}(?:-[a-z]+)+-\d)\s*$([^#]*)/gm))
    for (const [text] of block.matchAll(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)) {
      const { publicKey } = new X509Certificate(text);
      const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
      if (publicKey.asymmetricKeyType !== "rsa" || bits < 2048)
        throw new MigError("settings_invalid", `the certificate of ${region} has no RSA key of 2048 bits`);
      keys.set(region, [...(keys.get(region) ?? []), publicKey]);
    }
  return keys;
}

function refusal(why: string, cause?: unknown): MigError {
  return new MigError("unauthenticated", `the instance identity document is not good: ${why}`, { cause });
}
