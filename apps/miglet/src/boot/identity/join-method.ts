import type { Settings } from "../settings-table.ts";

/** How this VM gets its token. One that was given to it (controller.auth) goes before one that it would ask for. */
export function joinMethodOf(settings: Partial<Settings>): "none" | "token" | "mtls" {
  const isGiven =
    settings["controller.auth.type"] === "none" ||
    settings["controller.auth.token"] !== undefined ||
    settings["controller.auth.token_path"] !== undefined;
  if (isGiven) return "none";
  const hasToken = settings["join.token"] !== undefined || settings["join.token_path"] !== undefined;
  return settings["join.method"] ?? (hasToken ? "token" : "none");
}
