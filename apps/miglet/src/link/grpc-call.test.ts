import fc from "fast-check";
import { expect, test } from "vitest";
import { parseGrpcEndpoint, resolveGrpcEndpoint } from "./endpoint.ts";
import { createFrameReader } from "./grpc-frames.ts";

const frame = (bytes: Uint8Array, flag = 0): Buffer => {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
};

test("messages come out whole, however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.array(fc.integer({ min: 1, max: 30 })),
      (messages, cuts) => {
        const seen: number[][] = [];
        const read = createFrameReader((bytes) => seen.push([...bytes]));
        let rest = Buffer.concat(messages.map((bytes) => frame(bytes)));
        for (const cut of [...cuts, rest.length + 1]) {
          if (rest.length > 0) expect(read(rest.subarray(0, cut))).toBeUndefined();
          rest = rest.subarray(cut);
        }
        expect(seen).toEqual(messages.map((bytes) => [...bytes]));
      },
    ),
  );
});

test("a compressed message and one over the limit are problems, before their bytes are awaited", () => {
  expect(createFrameReader(() => {})(frame(Buffer.from("x"), 1))).toMatch(/compressed/);
  expect(createFrameReader(() => {})(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]))).toMatch(/over the limit/);
});

test("an endpoint is host:port or a URL", () => {
  expect(parseGrpcEndpoint("controller:50051").origin).toBe("http://controller:50051");
  expect(parseGrpcEndpoint("https://c.example").origin).toBe("https://c.example");
  for (const wrong of ["ftp://x", "http://", "a b"])
    expect(() => parseGrpcEndpoint(wrong)).toThrow(/grpc_endpoint/);
});

test("a gRPC endpoint without a scheme is as safe as the HTTP endpoint, and the same host without any", () => {
  expect(resolveGrpcEndpoint("c:50051", "https://c.example")).toBe("https://c:50051");
  expect(resolveGrpcEndpoint("c:50051", "http://c.example")).toBe("http://c:50051");
  expect(resolveGrpcEndpoint("c:50051", undefined)).toBe("http://c:50051");
  expect(resolveGrpcEndpoint("http://c:50051", "https://c.example")).toBe("http://c:50051");
  expect(resolveGrpcEndpoint(undefined, "https://c.example:8443/mig")).toBe("https://c.example:8443");
  expect(resolveGrpcEndpoint(undefined, undefined)).toBeUndefined();
});
