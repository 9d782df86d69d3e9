import { createHash } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import { limits, readContentDigest, writeContentDigest } from "@mig/protocol";
import {
  CommandPath,
  DiagnosticsList,
  DiagnosticsStored,
  ErrorAnswer,
  GzipContent,
  VmPath,
} from "@mig/protocol/schemas";
import type { BundleFacts, DiagnosticsDesk } from "../../../../../diagnostics/diagnostics-desk.ts";
import { ask, callerOf, demand, originOf } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import { timeOrNull } from "../../../render.ts";
import type { Routes } from "../../../routes.ts";
import { createUploadSlots } from "../../../upload-slots.ts";

/** …/diagnostics: an agent brings the bundle that a command asked for; operators list and take away. */
export function vmDiagnostics(routes: Routes, { desk, gate }: HttpParts): void {
  const { diagnostics } = desk;
  if (diagnostics === undefined) return;
  // A scope of its own: nowhere else is gzip a body.
  void routes.register((scope: Routes, _options, done) => {
    addUpload(scope, diagnostics, gate);
    done();
  });
  const tags = ["operator"];

  routes.get(
    "/api/v1/vms/:vm_id/diagnostics",
    {
      schema: { tags, params: VmPath, response: { 200: DiagnosticsList, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "diagnostics.read"),
    },
    async (request) => {
      const vm = await desk.findVm(request.params.vm_id);
      demand(callerOf(request), "diagnostics.read", vm);
      return { diagnostics: (await diagnostics.list(vm.vmId)).map(render) };
    },
  );

  routes.get(
    "/api/v1/vms/:vm_id/diagnostics/:command_id",
    {
      schema: { tags, params: CommandPath, response: { 200: GzipContent, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "diagnostics.read"),
    },
    async (request, reply) => {
      const { vm_id: vmId, command_id: commandId } = request.params;
      const vm = await desk.findVm(vmId);
      demand(callerOf(request), "diagnostics.read", vm);
      const about = { vmId, orgId: vm.orgId, commandId };
      const { content, sha256 } = await diagnostics.fetch(about, originOf(request));
      return reply
        .headers({
          "content-type": "application/gzip",
          // Both are ids: no character of theirs means anything in a header.
          "content-disposition": `attachment; filename="${vmId}-${commandId}.tar.gz"`,
          "content-digest": writeContentDigest(sha256),
        })
        .send(content as never);
    },
  );
}

function addUpload(scope: Routes, diagnostics: DiagnosticsDesk, gate: HttpParts["gate"]): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser(
    "application/gzip",
    { parseAs: "buffer", bodyLimit: limits.diagnosticsBytesMax },
    (_request, body, done) => done(null, body),
  );
  scope.put(
    "/api/v1/vms/:vm_id/diagnostics/:command_id",
    {
      schema: {
        tags: ["agent"],
        params: CommandPath,
        body: GzipContent,
        response: { 200: DiagnosticsStored, "4xx": ErrorAnswer },
      },
      onRequest: [ask(gate, "diagnostics.write", "bulk"), createUploadSlots()],
    },
    async ({ params, headers, body }) => {
      const { vm_id: vmId, command_id: commandId } = params;
      const said = readContentDigest(headers["content-digest"]?.toString());
      if (!Buffer.isBuffer(body) || body.length === 0)
        throw new MigError("invalid_request", "the body is the bundle, with content-type: application/gzip");
      if (said === undefined)
        throw new MigError("invalid_request", "the header content-digest says sha-256=:BASE64: of the body");
      const sha256 = createHash("sha256").update(body).digest("hex");
      if (said !== sha256)
        throw new MigError("invalid_request", "the body is not what its content-digest says; send it again");
      if (body[0] !== 0x1f || body[1] !== 0x8b) throw new MigError("invalid_request", "the body is not gzip");
      await diagnostics.keep({ vmId, commandId, content: body, sha256 });
      return { status: "stored", vm_id: vmId, command_id: commandId, bytes: body.length, sha256 };
    },
  );
}

function render({ result, ...bundle }: BundleFacts): object {
  return {
    command_id: bundle.commandId,
    vm_id: bundle.vmId,
    bytes: bundle.bytes,
    sha256: bundle.sha256,
    received_at: timeOrNull(bundle.receivedAtMs),
    command_state: bundle.commandState,
    files: result?.["files"] ?? null,
    truncated: result?.["truncated"] ?? null,
  };
}
