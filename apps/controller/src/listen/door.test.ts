import { describe, expect, test } from "vitest";
import { recognize } from "./door.ts";

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const ping = Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0]);

describe("what a connection speaks", () => {
  test.each([
    ["G", "http"],
    ["PROPFIND / HTTP/1.1", "http"],
    ["PRI", undefined],
    ["PRI * HTTP/1.1", "garbage"],
    [preface, undefined],
    [Buffer.concat([Buffer.from(preface), settings.subarray(0, 8)]), undefined],
    [Buffer.concat([Buffer.from(preface), settings]), "grpc"],
    [Buffer.concat([Buffer.from(preface), ping]), "garbage"],
    [Buffer.from([0x16, 3, 1]), "http"],
  ] as const)("%j → %s", (bytes, kind) => {
    expect(recognize(Buffer.from(bytes as string))).toBe(kind);
  });

  test("one more byte never takes an answer back", () => {
    const whole = Buffer.concat([Buffer.from(preface), settings]);
    const kinds = Array.from({ length: whole.length }, (_, i) => recognize(whole.subarray(0, i + 1)));
    expect(kinds.indexOf("grpc")).toBe(whole.length - 1);
    expect(kinds.slice(0, -1).every((kind) => kind === undefined)).toBe(true);
  });
});
