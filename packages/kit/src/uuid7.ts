import { randomFillSync } from "node:crypto";

const bytes = new Uint8Array(16);

/** A UUID version 7 (RFC 9562 §5.7): time-ordered to the millisecond, 74 random bits. */
export function uuid7(nowMs: number = Date.now()): string {
  randomFillSync(bytes);
  let rest = nowMs;
  for (let i = 5; i >= 0; i -= 1) {
    bytes[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
