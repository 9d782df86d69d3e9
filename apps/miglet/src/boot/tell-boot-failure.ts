import { pause, silentLog, uuid7 } from "@mig/kit";
import { type ErrorCode, errorCodes } from "@mig/lifecycle";
import { type JsonObject, limits, maybe, type VmEvent } from "@mig/protocol";
import { joinMethodOf } from "./identity/join-method.ts";
import type { SettingProblem } from "./settings.ts";
import type { Settings } from "./settings-table.ts";

export interface BootFailure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly problems?: readonly SettingProblem[];
}

/**
 * Seed 001: "Fail fast with structured error events on misconfiguration". Whoever looks at the pool should see why a
 * VM never came, so what is wrong is told to the controller, where it can be known which one that is and who speaks.
 * One attempt, bounded. The event has no incarnation: this boot has no memory and may have a runner that lives on.
 * Answers why it was not told, or undefined. Never rejects.
 */
export async function tellBootFailure(
  values: Partial<Settings>,
  failure: BootFailure,
  withinMs = 4_000,
): Promise<string | undefined> {
  const { vm_id: vmId, pool_id: poolId, "controller.endpoint": endpoint } = values;
  const isKnown = poolId !== undefined || joinMethodOf(values) !== "none";
  if (vmId === undefined || !isKnown || endpoint === undefined)
    return "vm_id, pool_id or controller.endpoint is not known";
  const tell = async (): Promise<undefined> => {
    const [{ createHttpCalls }, { openIdentity }, { createTlsSource }] = await Promise.all([
      import("../link/http-calls.ts"),
      import("./identity/open-identity.ts"),
      import("../link/tls-material.ts"),
    ]);
    const tls = createTlsSource({
      caPath: values["controller.ca_path"],
      certPath: values["controller.tls.cert_path"],
      keyPath: values["controller.tls.key_path"],
      caPin: values["controller.tls.ca_pin"],
    });
    const identity = await openIdentity({
      settings: {
        state_dir: "",
        ...values,
        vm_id: vmId,
        "controller.timeout": withinMs,
        "controller.retry.initial_backoff": withinMs,
        "controller.retry.max_backoff": withinMs,
      },
      tls,
      log: silentLog,
    });
    const calls = createHttpCalls({
      endpoint,
      vmId,
      incarnation: "",
      timeoutMs: withinMs,
      log: silentLog,
      bearer: identity.bearer,
      tls,
    });
    try {
      await identity.bearer();
      const event: VmEvent = {
        type: "error",
        vmId,
        poolId: identity.poolId(),
        ...maybe("orgId", identity.orgId()),
        eventId: uuid7(),
        occurredAtMs: Date.now(),
        data: dataOf(failure),
      };
      await calls.postEvents([event]);
    } finally {
      calls.close();
      identity.close();
    }
  };
  const over = new AbortController();
  const told = tell().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
  const late = pause(withinMs, over.signal).then(() => `no answer in ${withinMs / 1_000} s`);
  return Promise.race([told, late]).finally(() => over.abort());
}

function dataOf({ code, message, problems = [] }: BootFailure): JsonObject {
  const cut = (text: string): string => text.slice(0, 500);
  const shown = problems.slice(0, problemsMax).map(({ key, source, message: what }) => ({
    key: cut(key),
    source: cut(source),
    message: cut(what),
  }));
  return {
    code,
    category: errorCodes[code],
    message: message.slice(0, limits.textLengthMax),
    fatal: true,
    ...(shown.length === 0 ? {} : { problems: shown }),
  };
}

/** 30 times 1,500 characters stay below what one event may hold. */
const problemsMax = 30;
