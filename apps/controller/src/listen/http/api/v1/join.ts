import { maybe } from "@mig/protocol";
import { ErrorAnswer, JoinAnswer, JoinBody, NonceAnswer, RenewBody, VmPath } from "@mig/protocol/schemas";
import type { Joined } from "../../../../join/join-desk.ts";
import { ask, askNobody, callerOf, demand, originOf } from "../../../auth.ts";
import { peerCertificateOf } from "../../../tls/peer-certificate.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";

/** How a machine becomes a VM that is known, and stays it (DESIGN §7). Open to everybody: the proof is in the body. */
export function join(routes: Routes, { desk: { access, findVm }, gate }: HttpParts): void {
  if (access === undefined) return;
  const { join, signingKeys, identities } = access;
  const tags = ["join"];

  routes.post(
    "/api/v1/join/nonce",
    { schema: { tags, response: { 200: NonceAnswer, "4xx": ErrorAnswer } }, onRequest: askNobody(gate) },
    async () => {
      const { text, expiresInMs } = await join.nonce();
      return { nonce: text, expires_in: expiresInMs / 1000 };
    },
  );
  routes.post(
    "/api/v1/join",
    {
      schema: { tags, body: JoinBody, response: { 200: JoinAnswer, "4xx": ErrorAnswer } },
      onRequest: askNobody(gate, "join"),
    },
    async ({ body, id, ip, raw }) =>
      render(
        await join.join(
          {
            method: body.method,
            nonce: body.nonce,
            keyProof: body.key_proof,
            vmId: body.vm_id,
            ...maybe("poolId", body.pool_id),
            ...maybe("token", body.token),
            ...maybe("identityToken", body.gcp?.identity_token),
            ...maybe("document", body.aws?.document),
            ...maybe("callerIdentity", body.aws?.caller_identity),
          },
          { requestId: id, address: ip, ...maybe("certificate", peerCertificateOf(raw.socket)) },
        ),
      ),
  );
  routes.post(
    "/api/v1/vms/:vm_id/token",
    {
      schema: { tags, params: VmPath, body: RenewBody, response: { 200: JoinAnswer, "4xx": ErrorAnswer } },
      onRequest: askNobody(gate),
    },
    async ({ params, body, id, ip }) =>
      render(
        await join.renew(
          params.vm_id,
          { nonce: body.nonce, keyProof: body.key_proof },
          { requestId: id, address: ip },
        ),
      ),
  );
  routes.delete(
    "/api/v1/vms/:vm_id/identity",
    {
      schema: { tags: ["operator"], params: VmPath, response: { "4xx": ErrorAnswer } },
      onRequest: ask(gate, "vm.revoke"),
    },
    async (request, reply) => {
      const vmId = request.params.vm_id;
      const object = (await identities.find(vmId)) ?? (await findVm(vmId));
      demand(callerOf(request), "vm.revoke", object);
      await identities.revoke(vmId, { ...originOf(request), action: "vm.revoke" });
      return reply.status(204).send();
    },
  );
  routes.get("/.well-known/jwks.json", { schema: { tags } }, async () => ({ keys: signingKeys.published() }));
}

function render({ vmId, poolId, orgId, accessToken, expiresInMs }: Joined): object {
  return {
    vm_id: vmId,
    pool_id: poolId,
    org_id: orgId,
    access_token: accessToken,
    token_type: "Bearer",
    expires_in: expiresInMs / 1000,
  };
}
