import { ErrorAnswer, ReleaseAnswer, VmPath } from "@mig/protocol/schemas";
import { ask } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

/** POST …/runner/release: the agent wants to stop its idle runner, and GitHub must let it go first. */
export function runnerRelease(routes: Routes, { desk, gate }: HttpParts): void {
  routes.post(
    "/api/v1/vms/:vm_id/runner/release",
    {
      schema: { tags: ["agent"], params: VmPath, response: { 200: ReleaseAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "vm.speak"),
    },
    async ({ params: { vm_id: vmId } }) => ({ registration: await desk.releaseRunner(vmId) }),
  );
}
