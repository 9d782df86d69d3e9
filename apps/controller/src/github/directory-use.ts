import { MigError } from "@mig/lifecycle";
import { appServing } from "../config/who-serves.ts";
import type { Tx } from "../store/open-store.ts";
import { keySlots } from "./directory-keys.ts";
import { countLiveVms, countOpenGrants, type Kind, kindNames } from "./directory-rows.ts";
import type { DirectoryShot } from "./directory-shot.ts";

/** What is in use stays. */
export async function demandUnused(tx: Tx, kind: Kind, id: string, shot: DirectoryShot): Promise<void> {
  const pools = shot.pools.map(({ config }) => config);
  const inUse = (by: string): never => {
    throw new MigError("conflict", `the ${kindNames[kind]} "${id}" is in use by ${by}`);
  };
  if (kind === "pools") {
    const vms = await countLiveVms(tx, id);
    if (vms > 0) inUse(`${vms} VMs that have not ended; drain them first`);
  } else if (kind === "orgs") {
    const users = pools.filter(({ orgId }) => orgId === id);
    if (users.length > 0) inUse(`the pools ${nameSome(users)}`);
  } else {
    const apps = shot.apps.map(({ config }) => config);
    const orgs = shot.orgs.map(({ config }) => config);
    const users = pools.filter((pool) => {
      const served = appServing(pool, apps, orgs);
      return "app" in served && served.app === id;
    });
    if (users.length > 0) inUse(`the pools ${nameSome(users)}`);
    const ownKeys = keySlots(id).map((slot) => `db://${slot}`);
    const borrowers = apps.filter(
      (app) =>
        app.id !== id && [app.key, app.previousKey].some((one) => one !== undefined && ownKeys.includes(one)),
    );
    if (borrowers.length > 0) inUse(`the GitHub Apps ${nameSome(borrowers)}, which name its key`);
    const grants = await countOpenGrants(tx, id);
    if (grants > 0) inUse(`${grants} grants that are being made; try again soon`);
  }
}

function nameSome(entries: readonly { id: string }[]): string {
  const some = entries.slice(0, 5).map(({ id }) => id);
  return `${some.join(", ")}${entries.length > some.length ? ` and ${entries.length - some.length} more` : ""}`;
}
