import { createHash, X509Certificate } from "node:crypto";
import { silentLog } from "@mig/kit";
import { createTestCa, type TestCa, type TestCertificate } from "@mig/sandbox";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openGrpcLink } from "../src/link/grpc-link.ts";
import { createHttpClient } from "../src/link/http-request.ts";
import { createTlsSource, type TlsMaterial } from "../src/link/tls-material.ts";
import { openWsLink } from "../src/link/ws-link.ts";
import { speaker } from "./link-lab.ts";
import { startTlsLab, type TlsLab } from "./link-tls-lab.ts";

let ca: TestCa;
let other: TestCa;
let server: TlsLab;
let good: TestCertificate;
beforeAll(async () => {
  [ca, other] = await Promise.all([createTestCa(), createTestCa("somebody else")]);
  good = await ca.issue({ hosts: ["localhost"] });
  server = await startTlsLab(good);
});
afterAll(() => server.close());

const pinOf = (pem: string): string => {
  const spki = new X509Certificate(pem).publicKey.export({ type: "spki", format: "der" });
  return `sha256:${createHash("sha256").update(spki).digest("hex")}`;
};
/** What the agent makes of its settings; the authority is given here and not in a file. */
const withPin = async (caPin: string, pem = ca.caPem): Promise<TlsMaterial> => ({
  ...(await createTlsSource({ caPin })()),
  ca: pem,
});

const ways = {
  async http(material: TlsMaterial) {
    const client = createHttpClient({
      endpoint: `https://localhost:${server.port}`,
      tls: async () => material,
    });
    try {
      await client.call({ method: "POST", path: "/x", body: {}, timeoutMs: 1500 });
    } finally {
      client.close();
    }
  },
  grpc: (material: TlsMaterial) => tryStream(openGrpcLink, material),
  websocket: (material: TlsMaterial) => tryStream(openWsLink, material),
};
async function tryStream(open: typeof openGrpcLink, material: TlsMaterial): Promise<void> {
  const endpoint = `https://localhost:${server.port}`;
  const { link } = await open(
    { endpoint, speaker, tls: async () => material, connectMs: 1500, answerMs: 1500, log: silentLog },
    { onCommand: () => {}, onDown: () => {}, onGoAway: () => {} },
  );
  await link.close();
}

test.each(["http", "grpc", "websocket"] as const)("%s goes on with the right pin alone", async (way) => {
  await ways[way](await withPin(pinOf(ca.caPem)));
  await ways[way](await withPin(pinOf(good.certPem)));
  // Trusted by the machine, and still not the one that is meant.
  const wrong = ways[way](await withPin(pinOf(other.caPem), ca.caPem + other.caPem));
  await expect(wrong).rejects.toThrow(/controller\.tls\.ca_pin/);
  // A pin makes nothing good that is not: the authority must be trusted as well.
  await expect(ways[way](await withPin(pinOf(ca.caPem), other.caPem))).rejects.toThrow(/controller\.ca_path/);
});

test("a server that sends the pinned certificate along without being signed by it is refused", async () => {
  // The same name as the pinned authority's: only the signature tells them apart.
  const twin = await createTestCa();
  const leaf = await twin.issue({ hosts: ["localhost"] });
  server.use({ ...leaf, certPem: leaf.certPem + ca.caPem });
  try {
    const refused = ways.http(await withPin(pinOf(ca.caPem), twin.caPem));
    await expect(refused).rejects.toThrow(/controller\.tls\.ca_pin/);
  } finally {
    server.use(good);
  }
});
