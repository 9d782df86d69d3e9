import { MigError } from "@mig/lifecycle";
import { asObject, isId, readNumber, readText } from "@mig/protocol";
import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify } from "jose";
import type { GcpPolicy } from "../config/join-policy.ts";
import type { PoolConfig } from "../config/pools.ts";
import type { VmIdentityRow } from "../identity/vm-identities.ts";
import { choosePool } from "./choose-pool.ts";
import { joinChallenge } from "./join-challenge.ts";
import type { Prover } from "./prover.ts";

/** What Compute Engine says of an instance, in a token that it signed for this one join. */
export interface GcpInstance {
  readonly projectId: string;
  readonly projectNumber: string;
  readonly zone: string;
  readonly instanceId: string;
  readonly instanceName: string;
  readonly createdAtMs: number;
  readonly email: string;
}

export interface GcpProverSettings {
  /** Google's JWK set. */
  readonly keysUrl: string;
  readonly pools: () => readonly PoolConfig[];
  readonly nowMs?: () => number;
}

const issuer = "https://accounts.google.com";
const skewS = 60;
/** Such a token is asked for during the join; one that is older was kept by somebody. */
const ageMaxS = 120;

/** The method `gcp`: an instance identity token in the full format ("Verify the identity of an instance"). */
export function createGcpProver({ keysUrl, pools, nowMs = Date.now }: GcpProverSettings): Prover {
  const keys = createRemoteJWKSet(new URL(keysUrl), {
    timeoutDuration: 5_000,
    cooldownDuration: 30_000,
    cacheMaxAge: 6 * 3_600_000,
  });

  async function read(text: string, audience: string): Promise<JWTPayload> {
    try {
      const { payload } = await jwtVerify(text, keys, {
        algorithms: ["RS256"],
        issuer,
        audience,
        clockTolerance: skewS,
        maxTokenAge: ageMaxS,
        requiredClaims: ["exp", "iat"],
        currentDate: new Date(nowMs()),
      });
      return payload;
    } catch (error) {
      if (error instanceof errors.JOSEError && !isKeySetProblem(error))
        throw new MigError("unauthenticated", `the instance identity token is not good: ${error.message}`, {
          cause: error,
        });
      throw new MigError("identity_unavailable", `Google's keys cannot be read from ${keysUrl}`, {
        cause: error,
        retryAfterMs: 5_000,
      });
    }
  }

  return {
    async verify({ method, nonce, vmId, poolId, identityToken = "" }, { key, orgIs }) {
      if (identityToken === "")
        throw new MigError("invalid_request", "gcp.identity_token is missing; the method gcp needs it");
      const instance = readInstance(await read(identityToken, joinChallenge(nonce, key.thumbprint)));
      if (vmId !== instance.instanceName && vmId !== instance.instanceId)
        throw new MigError(
          "forbidden",
          `this machine is ${instance.instanceName} (${instance.instanceId}), and joins as that, not as ${vmId}`,
        );
      const pool = choosePool(pools(), poolId, ({ join }) => judgeGcp(instance, join?.gcp, nowMs()));
      orgIs(pool.orgId);
      const { projectNumber, zone, instanceId, instanceName, createdAtMs } = instance;
      const place = `gcp:${projectNumber}/${zone}/${instanceName}`;
      return async () => ({
        method,
        instance: `gcp:${projectNumber}/${instanceId}`,
        poolId: pool.id,
        orgId: pool.orgId,
        joinedBy: `${place}@${createdAtMs}`,
        spend: async () => {},
        // A name is there once in a zone: a younger instance of the name means that the older one was deleted.
        replaces: ({ joinedBy }: VmIdentityRow) =>
          joinedBy.startsWith(`${place}@`) && Number(joinedBy.slice(place.length + 1)) < createdAtMs,
      });
    },
  };
}

/** The last one is what jose throws for an answer that is no 200, or no JSON. */
const isKeySetProblem = (error: errors.JOSEError): boolean =>
  error instanceof errors.JWKSTimeout ||
  error instanceof errors.JWKSInvalid ||
  error.code === "ERR_JOSE_GENERIC";

/** Throws `unauthenticated` for a token without what only an instance's own has: service accounts sign others too. */
function readInstance(claims: JWTPayload): GcpInstance {
  const engine = asObject(asObject(claims["google"])?.["compute_engine"]);
  const text = (key: string): string => (engine === undefined ? "" : (readText(engine, key) ?? ""));
  const createdAtS = engine === undefined ? undefined : readNumber(engine, "instance_creation_timestamp");
  const projectNumber = String(engine?.["project_number"] ?? "");
  const instance = {
    projectId: text("project_id"),
    projectNumber,
    zone: text("zone"),
    instanceId: text("instance_id"),
    instanceName: text("instance_name"),
    createdAtMs: (createdAtS ?? 0) * 1000,
    email: claims["email_verified"] === true ? (readText(claims, "email") ?? "") : "",
  };
  const isWhole =
    instance.projectId !== "" &&
    /^\d{1,20}$/.test(projectNumber) &&
    /^[a-z0-9-]{1,64}$/.test(instance.zone) &&
    isId(instance.instanceId) &&
    isId(instance.instanceName) &&
    createdAtS !== undefined;
  if (!isWhole)
    throw new MigError(
      "unauthenticated",
      "the token does not say which instance it is of; ask the metadata service for it with format=full",
    );
  return instance;
}

/** Why a pool does not take an instance; undefined: it does. */
export function judgeGcp(
  { projectId, zone, email, createdAtMs }: GcpInstance,
  policy: GcpPolicy | undefined,
  nowMs: number,
): string | undefined {
  if (policy === undefined) return "takes no instances of GCP (join.gcp)";
  const { projects, zones, serviceAccounts, maxAgeMs } = policy;
  if (!projects.includes(projectId)) return `takes none of the project ${projectId}`;
  if (zones.length > 0 && !zones.includes(zone)) return `takes none of the zone ${zone}`;
  if (serviceAccounts.length > 0 && !serviceAccounts.includes(email))
    return `takes none that runs as ${email === "" ? "nobody" : email}`;
  if (nowMs - createdAtMs > maxAgeMs)
    return `takes none that was created more than ${Math.round(maxAgeMs / 1000)} s ago`;
  if (createdAtMs - nowMs > skewS * 1000) return "takes none that was created in the future";
  return undefined;
}
