import fc from "fast-check";
import { expect, test } from "vitest";
import { explainFailure } from "./explain-failure.ts";

const failure = (code: string, message: string, cause?: unknown): Error =>
  Object.assign(new Error(message, { cause }), { code });

test.each([
  ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "unable to verify the first certificate", /controller\.ca_path/],
  [
    "EPROTO",
    "write EPROTO 40:error:0A00010B:SSL routines:f:wrong version number:../x.c:77:\n",
    /does not speak TLS:/,
  ],
  [
    "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION",
    "error:1000042e:SSL routines:OPENSSL_internal:X",
    /TLS 1\.2 or newer/,
  ],
  ["ERR_SSL_TLSV1_ALERT_CERTIFICATE_REQUIRED", "", /controller\.tls\.cert_path/],
  ["ENOTFOUND", "getaddrinfo ENOTFOUND controller", /name cannot be resolved/],
  ["EHOSTUNREACH", "connect EHOSTUNREACH", /network and routes/],
])("%s is said with its remedy", (code, message, remedy) => {
  expect(explainFailure(failure(code, message))).toMatch(remedy);
  expect(explainFailure(new Error("the request failed", { cause: failure(code, message) }))).toMatch(remedy);
});

test("the tries of several addresses are one failure", () => {
  const tries = [failure("ECONNREFUSED", "connect ECONNREFUSED ::1:1"), failure("ECONNREFUSED", "…")];
  expect(explainFailure(Object.assign(new AggregateError(tries), { code: "ECONNREFUSED" }))).toMatch(
    /nobody listens there.*\(ECONNREFUSED\)$/,
  );
});

test("whatever is thrown becomes one bounded line", () => {
  const thrown = fc.oneof(
    fc.anything(),
    fc
      .tuple(fc.string(), fc.string({ maxLength: 2000, unit: "binary" }))
      .map(([code, text]) => failure(code, text)),
  );
  fc.assert(
    fc.property(thrown, (error) => {
      const said = explainFailure(error);
      expect(said.length).toBeGreaterThan(0);
      expect(said.length).toBeLessThan(700);
      expect(said).not.toMatch(/\n/);
    }),
  );
});
