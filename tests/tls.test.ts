import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect, getCACertificates, setDefaultCACertificates } from "node:tls";
import { waitFor } from "@mig/kit";
import { readText } from "@mig/protocol";
import { createTestCa } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/** Real programs over TLS: the agents trust a private authority by their settings, whatever the channel. */
let house: House;
beforeAll(async () => {
  house = await openHouse({ tls: true });
});
afterAll(async () => {
  await house[Symbol.asyncDispose]();
});

it.each([
  ["stream", "grpc"],
  ["socket", "websocket"],
  ["events", "sse"],
  ["poll", "poll"],
])("a VM gets its runner over TLS by %s", async (name, channel) => {
  await house.startVm(`vm-${name}`, { channel });
  const vm = await house.until(`vm-${name}`, "state", "idle");
  expect(vm["channel"]).toBe(channel);
});

it("an agent that trusts another authority does not come in", async () => {
  const caPath = join(house.dir, "other.pem");
  await writeFile(caPath, (await createTestCa("other")).caPem);
  const vm = await house.startVm("vm-doubt", { caPath });
  await waitFor("the agent to tell about the certificate", () =>
    vm.agent.lines.find((line) => /certificate/i.test(JSON.stringify(line))),
  );
  expect(readText(await house.vm("vm-doubt"), "state")).toBeUndefined();
});

it("a renewed certificate comes into the running program by SIGHUP, and the stream stays", async () => {
  const before = await house.vm("vm-stream");
  const ca = await createTestCa("next");
  const { certPem, keyPem } = await ca.issue({ hosts: ["127.0.0.1"] });
  await writeFile(join(house.dir, "tls.crt"), certPem);
  await writeFile(join(house.dir, "tls.key"), keyPem);
  house.controller.kill("SIGHUP");
  await house.controller.says("new connections see the new certificate");
  const { port } = new URL(house.url);
  const socket = connect({ host: "127.0.0.1", port: Number(port), ca: ca.caPem, ALPNProtocols: ["h2"] });
  await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  expect([socket.alpnProtocol, socket.getProtocol()]).toEqual(["h2", "TLSv1.3"]);
  socket.destroy();
  setDefaultCACertificates([...getCACertificates(), ca.caPem]);
  // It goes on being heard on the connection that it had.
  const after = await waitFor("a further heartbeat", async () => {
    const vm = await house.vm("vm-stream");
    return readText(vm, "last_heartbeat") === readText(before, "last_heartbeat") ? undefined : vm;
  });
  expect([after["channel"], after["epoch"]]).toEqual(["grpc", before["epoch"]]);
});
