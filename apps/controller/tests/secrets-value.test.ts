import { inspect } from "node:util";
import { createLog } from "@mig/kit";
import fc from "fast-check";
import { expect, it, vi } from "vitest";
import { crc32c } from "../src/secrets/crc32c.ts";
import { SecretValue } from "../src/secrets/secret-value.ts";

const text = "correct horse battery staple";

/** Everything that a log line about `fields` would be. */
function logged(fields: Record<string, unknown>, sentence = ""): string {
  const lines: string[] = [];
  createLog({ level: "debug", write: (line) => void lines.push(line) }).info(fields, sentence);
  return lines.join("");
}

it("prints as [secret], whoever prints it", () => {
  using value = new SecretValue(text);
  const spy = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    expect(`${value}`).toBe("[secret]");
    expect(`${String(value)} ${value.toString()}`).toBe("[secret] [secret]");
    expect(JSON.stringify({ value, list: [value] })).toBe('{"value":"[secret]","list":["[secret]"]}');
    expect(inspect({ a: { b: { c: value } } }, { depth: 9, showHidden: true })).not.toContain("horse");
    expect(inspect(value)).toBe("[secret]");
    expect(inspect(new Error("x", { cause: value }))).not.toContain("horse");
    expect(JSON.stringify(structuredClone(value))).toBe("{}");
    expect(Object.getOwnPropertyNames(value)).toEqual([]);
    expect(logged({ value, deep: { value } })).not.toContain("horse");
  } finally {
    spy.mockRestore();
  }
  expect(value.reveal()).toBe(text);
});

it("is taken out of log lines in the shapes in which others write it, until it is disposed of", () => {
  const value = new SecretValue(`${text}\nline two "quoted"`);
  const bytes = value.revealBytes();
  const shapes = [value.reveal(), bytes.toString("base64"), JSON.stringify(value.reveal())];
  for (const shape of [...shapes, encodeURIComponent(value.reveal())])
    expect(logged({ body: `before ${shape} after` })).not.toMatch(/horse|Y29ycmVjd/);
  using binary = new SecretValue(Buffer.from([0xff, 1, 2, 3, 4, 5, 6, 0xfe]));
  for (const shape of ["base64", "hex"] as const)
    expect(logged({ body: `before ${binary.revealBytes().toString(shape)} after` })).toContain(
      "before [secret] after",
    );
  value.dispose();
  value.dispose();
  expect(logged({ body: text })).toContain("horse");
  expect(() => value.reveal()).toThrow(/disposed/);
});

it("stays hidden while anybody holds the same text", () => {
  const one = new SecretValue(text);
  using two = new SecretValue(text);
  one.dispose();
  expect(logged({ body: text })).not.toContain("horse");
  expect(two.reveal()).toBe(text);
});

it("overwrites its bytes, and gives copies of them", () => {
  const bytes = Buffer.from(text);
  const value = new SecretValue(bytes);
  value.revealBytes().fill(0);
  expect(value.reveal()).toBe(text);
  value.dispose();
  expect(bytes.every((byte) => byte === 0)).toBe(true);
});

it("tells equal from other without showing either", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      using one = new SecretValue(Buffer.from(a));
      using two = new SecretValue(Buffer.from(b));
      expect(one.equals(two)).toBe(Buffer.compare(a, b) === 0);
      expect(one.digest === two.digest).toBe(one.equals(two));
    }),
  );
});

it("computes CRC-32C as RFC 3720 B.4 has it", () => {
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, index) => index)))).toBe(0x46dd794e);
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
});
