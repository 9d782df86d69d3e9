import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openIdentity } from "../src/boot/identity/open-identity.ts";
import { readSettings } from "../src/boot/settings.ts";
import { createLinkKeeper } from "../src/keep-link.ts";
import type { Input } from "../src/life/words.ts";
import { createControllerClock } from "../src/link/controller-clock.ts";
import { createTlsSource } from "../src/link/tls-material.ts";
import { openMemory } from "../src/memory/open-memory.ts";
import { type JoinLab, startJoinLab } from "./join-lab.ts";
import { friendly, type GrpcLab, speaker, startGrpcLab } from "./link-lab.ts";

/** What a VM that has joined does when the controller ends its stream; a real server for each of the two ways. */
let dir: string;
let lab: JoinLab;
let grpc: GrpcLab;
let close: () => Promise<void>;
const inputs: Input[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-identity-"));
  lab = await startJoinLab();
  grpc = await startGrpcLab(friendly);
  inputs.length = 0;
});
afterEach(async () => {
  await close();
  await Promise.all([lab.close(), grpc.close()]);
  await rm(dir, { recursive: true, force: true });
});

async function openLink(): Promise<void> {
  const { settings, problems } = await readSettings({
    flags: { settings: new Map() },
    environment: {
      MIGLET_VM_ID: "vm-1",
      MIGLET_CONTROLLER_ENDPOINT: lab.url,
      MIGLET_CONTROLLER_GRPC_ENDPOINT: grpc.endpoint,
      MIGLET_CONTROLLER_CHANNEL: "grpc",
      MIGLET_CONTROLLER_RETRY_INITIAL_BACKOFF: "50ms",
      MIGLET_STATE_DIR: dir,
      MIGLET_JOIN_TOKEN: "mgj_of-the-link-test",
    },
  });
  if (settings === undefined) throw new Error(JSON.stringify(problems));
  const tls = createTlsSource({});
  const controllerClock = createControllerClock({});
  const log = silentLog;
  const feed = (input: Input): void => void inputs.push(input);
  const memory = await openMemory({ directory: dir, log });
  const identity = await openIdentity({ settings, tls, controllerClock, log });
  const way = createLinkKeeper({ settings, speaker, memory, identity, tls, controllerClock, feed, log });
  close = async () => {
    await way.link.close();
    way.http?.close();
    identity.close();
    await memory.close();
  };
  way.link.open();
  await waitFor("the first stream", () => inputs.some(({ on }) => on === "link_up"));
}
const countOf = (on: Input["on"]): number => inputs.filter((input) => input.on === on).length;
const refusals = (): unknown[] => inputs.flatMap((input) => (input.on === "refused" ? [input.refusal] : []));
const callsOf = (call: string): number => lab.asked.filter((one) => one.call === call).length;

it("token_expired: it comes back with another token, and nobody is refused", async () => {
  await openLink();
  expect([grpc.authorizations[0], callsOf("renew")]).toEqual(["Bearer token-2", 0]);
  grpc.streams[0]?.say({
    kind: "go_away",
    goAway: { reason: "token_expired", reconnectAfterMs: 0, deadlineMs: 500 },
  });
  grpc.streams[0]?.end();
  await waitFor("the second stream", () => countOf("link_up") === 2);
  expect([grpc.authorizations[1], callsOf("renew"), callsOf("join")]).toEqual(["Bearer token-4", 1, 1]);
  expect(refusals()).toEqual([]);
});

it("an end for another reason does not cost a token", async () => {
  await openLink();
  grpc.streams[0]?.say({
    kind: "go_away",
    goAway: { reason: "shutting_down", reconnectAfterMs: 0, deadlineMs: 500 },
  });
  grpc.streams[0]?.end();
  await waitFor("the second stream", () => countOf("link_up") === 2);
  expect([grpc.authorizations[1], callsOf("renew")]).toEqual(["Bearer token-2", 0]);
});

it("identity_revoked: the key is asked about at once, and what is said of it is told to the life", async () => {
  await openLink();
  lab.refuse("renew", [403, "forbidden"]);
  lab.refuse("join", [403, "forbidden"]);
  grpc.streams[0]?.say({
    kind: "go_away",
    goAway: { reason: "identity_revoked", reconnectAfterMs: 0, deadlineMs: 0 },
  });
  grpc.streams[0]?.end();
  await waitFor("the refusal", () => countOf("refused") > 0);
  expect(refusals()).toEqual([
    { code: "forbidden", message: expect.stringMatching(/the join is forbidden.*the renew is forbidden/) },
  ]);
});
