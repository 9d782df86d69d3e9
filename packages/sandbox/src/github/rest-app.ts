/** The calls that an App makes for itself: who it is, where it is installed, tokens for its installations (runner-contract §8.2). */
import type { Access } from "./access.ts";
import type { GithubClock } from "./clock.ts";
import { type Call, Refusal, type Route } from "./http.ts";
import type { Installation, Installs } from "./installs.ts";
import type { Limits } from "./limits.ts";
import { pageOf } from "./pages.ts";
import { nodeId, restOwner } from "./rest-shapes.ts";

const slug = "mig-stand-in";
const events = ["workflow_job"];
const sinceMs = Date.UTC(2026, 0, 1);

export function appRoutes(
  access: Access,
  installs: Installs,
  limits: Limits,
  clock: GithubClock,
): readonly Route[] {
  const since = clock.iso(sinceMs);
  const apiUrlOf = (call: Call): string => call.baseUrl + call.prefix;

  const shapeOf = ({ id, owner, suspendedAtMs }: Installation, call: Call) => ({
    id,
    account: restOwner(owner, id, apiUrlOf(call)),
    repository_selection: "all",
    access_tokens_url: `${apiUrlOf(call)}/app/installations/${id}/access_tokens`,
    repositories_url: `${apiUrlOf(call)}/installation/repositories`,
    html_url: `${call.baseUrl}/organizations/${owner}/settings/installations/${id}`,
    app_id: access.appId,
    client_id: access.clientId,
    app_slug: slug,
    target_id: id,
    target_type: "Organization",
    permissions: installs.granted,
    events,
    created_at: since,
    updated_at: since,
    single_file_name: null,
    has_multiple_single_files: false,
    single_file_paths: [],
    suspended_by: suspendedAtMs === null ? null : restOwner(owner, id, apiUrlOf(call)),
    suspended_at: suspendedAtMs === null ? null : clock.iso(suspendedAtMs),
  });

  /** In a list the App's client id is left out: all are of the same one. */
  const listed = (installation: Installation, call: Call) => {
    const { client_id: _same, ...shape } = shapeOf(installation, call);
    return shape;
  };

  const found = (installation: Installation | undefined): Installation => {
    if (!installation) throw new Refusal(404, "Not Found");
    return installation;
  };

  return [
    [
      "GET",
      /^\/app$/,
      (call) => {
        access.requireApp(call);
        const { appId: id, clientId: client_id } = access;
        const body = {
          id,
          client_id,
          slug,
          node_id: nodeId("Integration", id),
          owner: restOwner("acme", 7, apiUrlOf(call)),
          name: "MIG stand-in",
          description: "",
          external_url: call.baseUrl,
          html_url: `${call.baseUrl}/apps/${slug}`,
          created_at: since,
          updated_at: since,
          permissions: installs.granted,
          events,
          installations_count: installs.all().length,
        };
        return { status: 200, body };
      },
    ],
    [
      "GET",
      /^\/app\/installations$/,
      (call) => {
        access.requireApp(call);
        const { items, headers } = pageOf(call, installs.all());
        return { status: 200, body: items.map((one) => listed(one, call)), headers };
      },
    ],
    [
      "GET",
      /^\/app\/installations\/(\d+)$/,
      (call, id) => {
        access.requireApp(call);
        return { status: 200, body: shapeOf(found(installs.byId(Number(id))), call) };
      },
    ],
    [
      "GET",
      /^\/(?:orgs\/([^/]+)|repos\/([^/]+)\/[^/]+)\/installation$/,
      (call, org = "", owner = "") => {
        access.requireApp(call);
        return { status: 200, body: shapeOf(found(installs.of(org || owner)), call) };
      },
    ],
    [
      "POST",
      /^\/app\/installations\/(\d+)\/access_tokens$/,
      (call, id) => {
        access.requireApp(call);
        return { status: 201, body: access.createInstallationToken(Number(id), call.body["permissions"]) };
      },
    ],
    [
      "GET",
      /^\/rate_limit$/,
      (call) => {
        const actor = access.actorOf(call.authorization);
        if (actor === undefined) throw new Refusal(401, "Bad credentials");
        const resources = limits.overview(actor);
        const search = {
          limit: 30,
          used: 0,
          remaining: 30,
          reset: resources["core"]?.reset ?? clock.epoch(),
        };
        return { status: 200, body: { resources: { ...resources, search }, rate: resources["core"] } };
      },
    ],
  ];
}
