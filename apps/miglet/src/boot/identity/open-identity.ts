import type { Log } from "@mig/kit";
import { createBearerToken } from "../../link/bearer-token.ts";
import type { ControllerClock } from "../../link/controller-clock.ts";
import type { TlsSource } from "../../link/tls-material.ts";
import type { Settings } from "../settings-table.ts";
import type { JoinProof } from "./join.ts";
import { joinMethodOf } from "./join-method.ts";
import type { Belonging } from "./key.ts";

/** Who this VM is to the controller, and the token that shows it. */
export interface IdentityKeeper {
  /** "" while only the controller knows it; whatever is said before waits in the spool, without it. */
  poolId(): string;
  orgId(): string | undefined;
  bearer(): Promise<string | undefined>;
  /** Resolves when a joining that is under way has ended, well or not. */
  settled(): Promise<void>;
  /** The controller did not accept the token of a call. */
  doubt(): void;
  /** A channel opened, with the token of this moment. */
  onUp(): void;
  onGoAway(reason: string): void;
  close(): void;
}

export interface IdentitySettings {
  /** After a boot that failed, of those that could be read. */
  readonly settings: Partial<Settings> & Pick<Settings, NeededKey>;
  readonly tls: TlsSource;
  readonly controllerClock?: ControllerClock;
  readonly log: Log;
  /** The settings say another pool or organization than the controller. */
  onContradiction?(message: string): void;
}

type NeededKey =
  | "vm_id"
  | "state_dir"
  | "controller.timeout"
  | "controller.retry.initial_backoff"
  | "controller.retry.max_backoff";

/** Throws `state_unwritable` when the VM's key cannot be kept. Asks nobody: the first who needs a token does. */
export async function openIdentity(about: IdentitySettings): Promise<IdentityKeeper> {
  const { settings } = about;
  if (joinMethodOf(settings) !== "none") return openJoined(about);
  return {
    poolId: () => settings.pool_id ?? "",
    orgId: () => settings.org_id,
    bearer: bearerOf(settings),
    settled: async () => {},
    doubt: () => {},
    onUp: () => {},
    onGoAway: () => {},
    close: () => {},
  };
}

/** A file may be rotated, so it goes before a token that was given once. */
export function bearerOf(settings: Partial<Settings>): () => Promise<string | undefined> {
  if (settings["controller.auth.type"] === "none") return async () => undefined;
  const fromFile = createBearerToken(settings["controller.auth.token_path"]);
  const given = settings["controller.auth.token"];
  return async () => (await fromFile()) ?? given;
}

/** Loaded by those who join: the others should not pay for it. */
async function openJoined(about: IdentitySettings): Promise<IdentityKeeper> {
  const { settings, log } = about;
  const { vm_id: vmId, "controller.endpoint": endpoint = "" } = settings;
  const [{ openStoredIdentity }, { createJoinCalls }, { createEnrolmentReader }, { createObtainPass }] =
    await Promise.all([
      import("./key.ts"),
      import("./join.ts"),
      import("./enrolment-token.ts"),
      import("./obtain-pass.ts"),
    ]);
  const { createAccessToken } = await import("../../link/access-token.ts");
  const { createHttpClient } = await import("../../link/http-request.ts");
  const stored = await openStoredIdentity(settings.state_dir, vmId, log);
  let belonging = stored.belonging;
  let streamToken: string | undefined;
  const enrolmentToken = createEnrolmentReader(settings);
  const proof = async (): Promise<JoinProof | undefined> => {
    if (joinMethodOf(settings) === "mtls") return { method: "mtls" };
    const token = await enrolmentToken();
    return token === undefined ? undefined : { method: "token", token };
  };
  const client = createHttpClient({ endpoint, tls: about.tls, controllerClock: about.controllerClock });
  const obtain = createObtainPass({
    calls: createJoinCalls({ client, vmId, key: stored.key, timeoutMs: settings["controller.timeout"] }),
    hasJoined: () => belonging !== undefined,
    mayHaveJoined: stored.isOld,
    proof,
    log,
  });
  const access = createAccessToken({
    async obtain() {
      const pass = await obtain();
      const { poolId, orgId } = pass;
      if (belonging?.poolId !== poolId || belonging.orgId !== orgId) {
        log.info({ pool_id: poolId, org_id: orgId }, "The VM has joined.");
        belonging = { poolId, orgId };
        await stored.remember(belonging);
      }
      // Before anything is said with this token: a life that is set up wrong says that and nothing else.
      const problem = contradiction(settings, belonging);
      if (problem !== undefined) {
        log.error({ problem }, "The settings contradict what the controller says of this VM.");
        about.onContradiction?.(problem);
      }
      return pass;
    },
    retryFirstMs: settings["controller.retry.initial_backoff"],
    retryCapMs: settings["controller.retry.max_backoff"],
    log,
  });
  return {
    poolId: () => belonging?.poolId ?? "",
    orgId: () => belonging?.orgId,
    bearer: () => access.bearer(),
    async settled() {
      if (belonging === undefined) await access.bearer().catch(() => {});
    },
    doubt: () => access.doubt(),
    onUp() {
      streamToken = access.newest();
    },
    onGoAway(reason) {
      // Usually there is a newer one by then. Not so on a machine that slept, whose clock stood still.
      const isOver = reason === "token_expired" || reason === "identity_revoked";
      if (isOver && streamToken !== undefined) access.outdate(streamToken);
    },
    close() {
      access.close();
      client.close();
    },
  };
}

/** Who set it may have meant another pool's token; nobody can tell which of the two is wrong. */
function contradiction(settings: Partial<Settings>, { poolId, orgId }: Belonging): string | undefined {
  const wrong = (
    [
      ["pool_id", settings.pool_id, poolId],
      ["org_id", settings.org_id, orgId],
    ] as const
  ).filter(([, said, is]) => said !== undefined && said !== is);
  if (wrong.length === 0) return undefined;
  const told = wrong.map(([key, said, is]) => `${key} is ${said}, but this VM joined as one of ${is}`);
  return `${told.join("; ")}: correct the setting or leave it out, or use an enrolment token of the right pool.`;
}
