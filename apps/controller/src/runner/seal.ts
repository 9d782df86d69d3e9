import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import type { Sealer } from "./grant-line.ts";

const ivBytes = 12;
const tagBytes = 16;

/**
 * AES-256-GCM for what rests in the table for minutes. `about` is authenticated with it, so a sealed grant opens for
 * its own row only. All replicas of a database need the same key.
 */
export function createSealer(key: Buffer): Sealer {
  return {
    seal(text, about) {
      const iv = randomBytes(ivBytes);
      const cipher = createCipheriv("aes-256-gcm", key, iv, { authTagLength: tagBytes }).setAAD(
        Buffer.from(about),
      );
      return Buffer.concat([iv, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]).toString(
        "base64",
      );
    },
    open(sealed, about) {
      try {
        const bytes = Buffer.from(sealed, "base64");
        const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, ivBytes), {
          authTagLength: tagBytes,
        })
          .setAAD(Buffer.from(about))
          .setAuthTag(bytes.subarray(bytes.length - tagBytes));
        return Buffer.concat([
          decipher.update(bytes.subarray(ivBytes, bytes.length - tagBytes)),
          decipher.final(),
        ]).toString("utf8");
      } catch {
        throw new MigError(
          "secret_invalid",
          "a sealed grant cannot be opened: do all replicas have the same master key?",
        );
      }
    },
  };
}
