import { maybe, toJsonObject } from "@mig/protocol";
import { ErrorAnswer, GrantAnswer, GrantBody, VmPath } from "@mig/protocol/schemas";
import type { Grant } from "../../../../../session/desk.ts";
import { ask, asOwn, callerOf } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

/** POST …/registration-token: permission to register one runner (seed 000 R3). */
export function registrationToken(routes: Routes, { desk, gate, files }: HttpParts): void {
  routes.post(
    "/api/v1/vms/:vm_id/registration-token",
    {
      schema: {
        tags: ["agent"],
        params: VmPath,
        body: GrantBody,
        response: { 200: GrantAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "vm.grant"),
    },
    async (request) => {
      const {
        params: { vm_id: vmId },
        body,
      } = request;
      const { poolId, orgId } = asOwn(callerOf(request), {
        poolId: filled(body?.pool_id),
        orgId: filled(body?.org_id),
      });
      files?.keep(vmId, { file: "registration-token-request" }, toJsonObject(body));
      const grant = await desk.issueGrant(vmId, {
        ...maybe("orgId", orgId),
        ...maybe("poolId", poolId),
        ...maybe("runnerGroup", filled(body?.runner_group)),
        ...maybe("labels", body?.labels?.length === 0 ? undefined : (body?.labels ?? undefined)),
      });
      const answer = answerOf(grant);
      files?.keep(vmId, { file: "registration-token-response" }, toJsonObject(answer));
      return answer;
    },
  );
}

/** What an agent leaves empty the pool decides. */
function filled(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function answerOf(grant: Grant): object {
  return {
    registration_token: grant.registrationToken ?? "",
    expires_at: new Date(grant.expiresAtMs).toISOString(),
    runner_url: grant.runnerUrl,
    runner_group: grant.runnerGroup,
    labels: grant.labels,
    ...maybe("jit_config", grant.jitConfig),
    ...maybe("runner_name", grant.runnerName),
  };
}
