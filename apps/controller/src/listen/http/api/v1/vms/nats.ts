import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { ErrorAnswer, NatsAnswer, NatsBody, VmPath } from "@mig/protocol/schemas";
import { vmTokenMs } from "../../../../../identity/vm-token.ts";
import { ask } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

/** POST …/nats: where NATS is, and credentials for this VM's subjects there; good for as long as the VM's token. */
export function nats(routes: Routes, { gate, offers }: HttpParts): void {
  routes.post(
    "/api/v1/vms/:vm_id/nats",
    {
      schema: {
        tags: ["agent"],
        params: VmPath,
        body: NatsBody,
        response: { 200: NatsAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "vm.speak"),
    },
    async ({ params: { vm_id: vmId }, body, headers }) => {
      if (offers === undefined)
        throw new MigError("not_found", "this controller has no NATS (nats.url); take another channel");
      const { identityEpoch = 0, untilMs = Date.now() + vmTokenMs } = await gate.identify(
        headers.authorization,
      );
      const offer = await offers.make({ vmId, identityEpoch }, body.public_key, untilMs);
      return {
        servers: [...offer.servers],
        prefix: offer.prefix,
        identity_epoch: offer.identityEpoch,
        ...maybe("jwt", offer.jwt),
        ...maybe("expires_in_ms", offer.expiresInMs),
      };
    },
  );
}
