import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MigError } from "@mig/lifecycle";
import {
  type AwsRegion,
  createAwsRegion,
  type GcpIdentity,
  type GcpTokenChange,
  type StoreServer,
  startAwsSts,
  startGcpIdentity,
} from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
// What an agent sends is made by the agent's own code.
import { signCallerIdentity } from "../../miglet/src/boot/identity/aws-sign.ts";
import { readJoinPolicy } from "../src/config/join-policy.ts";
import { readAwsDocument, readRegionCertificates } from "../src/join/aws-document.ts";
import { createGcpProver } from "../src/join/gcp-prover.ts";
import { joinChallenge } from "../src/join/join-challenge.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";

/** Machines that join by what their cloud says of them: GCP's identity tokens, AWS's documents and STS. */
let google: GcpIdentity;
let region: AwsRegion;
let sts: StoreServer;
let lab: IdentityLab;
const stops: (() => Promise<void>)[] = [];

const session = {
  account: "123456789012",
  role: "mig-runner",
  session: "i-0123456789abcdef0",
  accessKeyId: "ASIAEXAMPLE1",
  secretKey: "a-secret-key",
  sessionToken: "a-session-token",
};
const others = [
  { ...session, accessKeyId: "ASIAEXAMPLE2", session: "i-0aaaaaaaaaaaaaaaa" },
  { ...session, accessKeyId: "ASIAEXAMPLE3", role: "somebody" },
  { ...session, accessKeyId: "ASIAEXAMPLE4", account: "999999999999" },
];

beforeAll(async () => {
  google = await startGcpIdentity();
  region = await createAwsRegion();
  sts = await startAwsSts([session, ...others]);
  const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "mig-proofs-"));
  const certificates = join(dir, "aws.pem");
  writeFileSync(certificates, region.certificatesPem);
  lab = await openIdentityLab({
    flags: [
      ...["--join-gcp-keys-url", google.url, "--join-aws-sts-url", sts.url],
      ...["--join-aws-certificates-file", certificates],
    ],
    policy: {
      gcp: {
        projects: ["acme-ci"],
        zones: ["europe-west1-b"],
        service_accounts: ["runners@acme-ci.iam.gserviceaccount.com"],
      },
      aws: {
        accounts: ["123456789012"],
        regions: ["eu-west-1"],
        images: ["ami-0abc"],
        roles: ["mig-runner"],
      },
    },
    atEnd: (stop) => void stops.push(stop),
  });
});
afterAll(async () => {
  for (const stop of stops) await stop();
  await Promise.all([google.close(), sts.close()]);
});

const code = ({ status, body }: { status: number; body: { error?: { code?: string } } }): unknown =>
  status === 200 ? 200 : `${status} ${body.error?.code}`;

describe("an instance of GCP", () => {
  const show =
    (change: GcpTokenChange = {}) =>
    (challenge: string): object => ({
      method: "gcp",
      gcp: { identity_token: google.sign(challenge, change) },
    });
  const engine = (n: number) => ({
    engine: { instance_id: `47110000000000${n}`, instance_name: `runner-vm-${n}` },
  });

  it("joins under its own name, into the only pool that takes it, and is known from then on", async () => {
    const machine = lab.machine("runner-vm-1");
    const joined = await machine.joinBy(show());
    expect(joined).toMatchObject({
      status: 200,
      body: { vm_id: "runner-vm-1", pool_id: "pool-a", org_id: "acme" },
    });
    expect(code(await machine.joinBy(show()))).toBe(200);
    expect(code(await machine.renew())).toBe(200);
    expect(code(await lab.machine("4711000000000099").joinBy(show(engine(99))))).toBe(200);
  });

  const s = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;
  it.each<[string, GcpTokenChange, string]>([
    ["of another issuer", { claims: { iss: "https://accounts.example.com" } }, "401 unauthenticated"],
    ["for another audience", { claims: { aud: "mig-join:another" } }, "401 unauthenticated"],
    ["that has expired", { claims: { exp: s(-120), iat: s(-180) } }, "401 unauthenticated"],
    ["that is older than this join", { claims: { iat: s(-300) } }, "401 unauthenticated"],
    ["of the future", { claims: { iat: s(600), nbf: s(600) } }, "401 unauthenticated"],
    ["without an end", { claims: { exp: undefined } }, "401 unauthenticated"],
    ["of a service account alone", { engine: null }, "401 unauthenticated"],
    ["with an unknown key's id", { header: { kid: "google-2" } }, "401 unauthenticated"],
    ["that says it needs no signature", { header: { alg: "none" } }, "401 unauthenticated"],
    ["that says its signature is a MAC", { header: { alg: "HS256" } }, "401 unauthenticated"],
    [
      "of another key",
      { key: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey },
      "401 unauthenticated",
    ],
    ["of another project", { engine: { project_id: "evil-ci" } }, "403 forbidden"],
    ["of another zone", { engine: { zone: "us-east1-c" } }, "403 forbidden"],
    [
      "of another service account",
      { claims: { email: "me@acme-ci.iam.gserviceaccount.com" } },
      "403 forbidden",
    ],
    ["of a service account that is not verified", { claims: { email_verified: false } }, "403 forbidden"],
    [
      "of an instance that has run for a while",
      { engine: { instance_creation_timestamp: s(-3_600) } },
      "403 forbidden",
    ],
    ["of an instance of tomorrow", { engine: { instance_creation_timestamp: s(86_400) } }, "403 forbidden"],
    ["of another machine", { engine: { instance_name: "other", instance_id: "1" } }, "403 forbidden"],
    ["with a number for a name", { engine: { instance_name: 7 } }, "401 unauthenticated"],
  ])("is refused with a token %s", async (_what, change, expected) => {
    const own = { instance_id: "4711000000000002", instance_name: "runner-vm-2" };
    const whole = change.engine === null ? change : { ...change, engine: { ...own, ...change.engine } };
    expect(code(await lab.machine("runner-vm-2").joinBy(show(whole)))).toBe(expected);
  });

  it("is refused in a pool that takes no instances, or that there is not", async () => {
    for (const pool_id of ["pool-b", "pool-z"]) {
      const named = (challenge: string) => ({ ...show(engine(3))(challenge), pool_id });
      expect(code(await lab.machine("runner-vm-3").joinBy(named))).toBe("403 forbidden");
    }
  });

  it("is refused with a proof that was used before, or that another machine asked for", async () => {
    let seen = "";
    const machine = lab.machine("runner-vm-4");
    const keep = (challenge: string): object => {
      seen = google.sign(challenge, engine(4));
      return { method: "gcp", gcp: { identity_token: seen } };
    };
    expect(code(await machine.joinBy(keep))).toBe(200);
    const replay = () => ({ method: "gcp", gcp: { identity_token: seen } });
    expect(code(await machine.joinBy(replay))).toBe("401 unauthenticated");
    expect(code(await lab.machine("runner-vm-4").joinBy(replay))).toBe("401 unauthenticated");
  });

  it("keeps its first key: who comes with a second one is refused, and both are on record", async () => {
    const own = show(engine(5));
    expect(code(await lab.machine("runner-vm-5").joinBy(own))).toBe(200);
    expect(code(await lab.machine("runner-vm-5").joinBy(own))).toBe("409 conflict");
    expect(code(await lab.machine("471100000000005").joinBy(own))).toBe("409 conflict");
    const { body } = await lab.api("GET", "audit?limit=200");
    const acts = body.entries.filter(
      ({ action, object }: { action: string; object: string }) =>
        action === "vm.join" && object === "vm:runner-vm-5",
    );
    expect(acts.map(({ result }: { result: string }) => result).sort()).toEqual(["done", "refused"]);
    expect(new Set(acts.map(({ details }: { details: { key: string } }) => details.key)).size).toBe(2);
  });

  it("is one VM, also when it asks under both of its names at once", async () => {
    const own = show(engine(7));
    const names = ["runner-vm-7", "471100000000007"];
    const joins = await Promise.all(names.map((name) => lab.machine(name).joinBy(own)));
    expect(joins.map(code).sort()).toEqual([200, "409 conflict"]);
  });

  it("takes over the name of an older instance, which its name shows to be deleted; not the other way", async () => {
    const younger = {
      engine: { ...engine(6).engine, instance_id: "66", instance_creation_timestamp: s(-5) },
    };
    expect(code(await lab.machine("runner-vm-6").joinBy(show(engine(6))))).toBe(200);
    expect(code(await lab.machine("runner-vm-6").joinBy(show(younger)))).toBe(200);
    expect(code(await lab.machine("runner-vm-6").joinBy(show(engine(6))))).toBe("409 conflict");
  });

  it("is told to come back when Google's keys cannot be read", async () => {
    const prover = createGcpProver({ keysUrl: "http://127.0.0.1:9/", pools: () => [] });
    const request = { method: "gcp", nonce: "n", keyProof: "", vmId: "v", identityToken: google.sign("a") };
    const about = {
      key: { thumbprint: "t", publicJwk: {} },
      address: undefined,
      certificate: undefined,
      orgIs: () => {},
    };
    await expect(prover.verify(request, about)).rejects.toMatchObject({ code: "identity_unavailable" });
  });

  it("is refused with any byte of its token changed", async () => {
    const prover = createGcpProver({ keysUrl: google.url, pools: () => [] });
    const token = google.sign(joinChallenge("n", "t"));
    const about = {
      key: { thumbprint: "t", publicJwk: {} },
      address: undefined,
      certificate: undefined,
      orgIs: () => {},
    };
    const outcome = async (identityToken: string): Promise<unknown> =>
      prover
        .verify({ method: "gcp", nonce: "n", keyProof: "", vmId: "runner-vm-1", identityToken }, about)
        .then(() => "taken")
        .catch((error: MigError) => error.code);
    expect(await outcome(token)).toBe("forbidden"); // No pool takes it; the token itself is good.
    // The last character of each part holds bits that no decoder reads.
    const ends = new Set([...token.matchAll(/\./g)].map(({ index }) => index - 1).concat(token.length - 1));
    for (let at = 0; at < token.length; at += 1) {
      if (token[at] === "." || ends.has(at)) continue;
      const changed = `${token.slice(0, at)}${token[at] === "A" ? "B" : "A"}${token.slice(at + 1)}`;
      expect(await outcome(changed), `character ${at}`).toBe("unauthenticated");
    }
  });
});

describe("an instance of AWS", () => {
  const document = (change: object = {}): string =>
    JSON.stringify({
      accountId: "123456789012",
      region: "eu-west-1",
      instanceId: "i-0123456789abcdef0",
      imageId: "ami-0abc",
      pendingTime: new Date(Date.now() - 30_000).toISOString(),
      ...change,
    });
  const call = (challenge: string, by = session, atMs = Date.now()) =>
    signCallerIdentity(by, { region: "eu-west-1", challenge, atMs });
  const show =
    (change: object = {}, by = session) =>
    async (challenge: string): Promise<object> => ({
      method: "aws",
      aws: { document: await region.sign(document(change)), caller_identity: call(challenge, by) },
    });
  const machine = () => lab.machine("i-0123456789abcdef0");

  it("joins under its instance id, and not with a second key", async () => {
    const first = machine();
    expect(await first.joinBy(show())).toMatchObject({
      status: 200,
      body: { pool_id: "pool-a", org_id: "acme" },
    });
    expect(code(await first.joinBy(show()))).toBe(200);
    expect(code(await machine().joinBy(show()))).toBe("409 conflict");
    expect(code(await lab.machine("i-other").joinBy(show()))).toBe("403 forbidden");
  });

  it.each<[string, object, string]>([
    ["of another account", { accountId: "999999999999" }, "403 forbidden"],
    ["of a region that no certificate is known of", { region: "us-east-1" }, "403 forbidden"],
    ["of another image", { imageId: "ami-0bad" }, "403 forbidden"],
    ["of an instance that has run for a while", { pendingTime: "2026-01-01T00:00:00Z" }, "403 forbidden"],
    ["of an instance of tomorrow", { pendingTime: "2096-01-01T00:00:00Z" }, "403 forbidden"],
    ["without a time", { pendingTime: "soon" }, "401 unauthenticated"],
    ["of no instance", { instanceId: "47" }, "401 unauthenticated"],
  ])("is refused with a document %s", async (_what, change, expected) => {
    expect(code(await machine().joinBy(show(change)))).toBe(expected);
  });

  it.each<
    [string, (challenge: string) => { url: string; headers: Record<string, string> } | undefined, string]
  >([
    ["is missing", () => undefined, "403 forbidden"],
    ["is another instance's", (challenge) => call(challenge, others[0]), "403 forbidden"],
    ["is another role's", (challenge) => call(challenge, others[1]), "403 forbidden"],
    ["is another account's", (challenge) => call(challenge, others[2]), "403 forbidden"],
    ["is for another join", () => call("mig-join:another"), "401 unauthenticated"],
    ["has expired", (challenge) => call(challenge, session, Date.now() - 3_600_000), "401 unauthenticated"],
    [
      "is nobody's",
      (challenge) => call(challenge, { ...session, accessKeyId: "ASIANOBODY" }),
      "401 unauthenticated",
    ],
    [
      "is forged",
      (challenge) => call(challenge, { ...session, secretKey: "a-guess" }),
      "401 unauthenticated",
    ],
    [
      "does not sign the challenge",
      (challenge) => {
        const { url, headers } = call(challenge);
        const authorization = (headers["authorization"] ?? "").replace(";x-mig-challenge", "");
        return { url, headers: { ...headers, authorization } };
      },
      "401 unauthenticated",
    ],
    [
      "goes somewhere else",
      (challenge) => ({ ...call(challenge), url: "https://sts.eu-west-1.amazonaws.com.evil.example/" }),
      "401 unauthenticated",
    ],
    [
      "is of another kind",
      (challenge) => ({ ...call(challenge), url: "https://sts.eu-west-1.amazonaws.com/?Action=AssumeRole" }),
      "401 unauthenticated",
    ],
    [
      "brings a header that nobody asked for",
      (challenge) => {
        const { url, headers } = call(challenge);
        return { url, headers: { ...headers, "x-forwarded-host": "evil.example" } };
      },
      "401 unauthenticated",
    ],
  ])("is refused where a role is wanted and the signed call %s", async (_what, sign, expected) => {
    const shown = async (challenge: string): Promise<object> => {
      const signed = sign(challenge);
      const aws = {
        document: await region.sign(document()),
        ...(signed === undefined ? {} : { caller_identity: signed }),
      };
      return { method: "aws", aws };
    };
    expect(code(await machine().joinBy(shown))).toBe(expected);
  });

  it("is told to come back when STS does not answer", async () => {
    const refusals = async (): Promise<number> =>
      (await lab.api("GET", "audit?limit=1000&action=vm.join")).body.entries.filter(
        ({ result }: { result: string }) => result === "refused",
      ).length;
    const before = await refusals();
    sts.fail({ kind: "status", status: 503 });
    try {
      expect(code(await machine().joinBy(show()))).toBe("503 identity_unavailable");
      // Nobody was refused: the log of who was must not fill up with an outage of AWS.
      expect(await refusals()).toBe(before);
    } finally {
      sts.mend();
    }
  });

  it("is refused with the older kinds of signatures, another region's key, and garbage", async () => {
    const { keysOf, refusalOf } = reader(region);
    expect(refusalOf(await region.sign(document(), "sha1"))).toMatch(/rsa2048/);
    const foreign = await createAwsRegion("eu-west-1");
    expect(refusalOf(await foreign.sign(document()))).toMatch(/not that of its region/);
    for (const text of ["", "AAAA", "%", "MIIB", Buffer.from("{}").toString("base64"), "A".repeat(24_000)])
      expect(refusalOf(text)).toMatch(/instance identity document is not good/);
    expect(keysOf("us-east-1")).toBeUndefined();
    expect(() =>
      readRegionCertificates("# eu-west-1\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
    ).toThrow();
  });

  it("is refused, or the same instance, with any bit of its document changed", async () => {
    const { keysOf, refusalOf } = reader(region);
    const der = Buffer.from(await region.sign(document()), "base64");
    const good = readAwsDocument(der.toString("base64"), keysOf);
    let refused = 0;
    for (let at = 0; at < der.length; at += 1) {
      const changed = Buffer.from(der);
      changed[at] = (der[at] ?? 0) ^ (1 << (at % 8));
      const text = changed.toString("base64");
      if (refusalOf(text) !== undefined) refused += 1;
      else expect(readAwsDocument(text, keysOf), `byte ${at}`).toEqual(good);
    }
    // What nobody signed, the envelope, is the rest.
    expect(refused / der.length).toBeGreaterThan(0.75);
  });
});

describe("a pool's policy", () => {
  it.each([
    [{ gcp: { projects: [] } }, "gcp .projects is a list of project ids"],
    [{ gcp: {} }, "gcp .projects is a list of project ids"],
    [{ aws: { accounts: [123] } }, "aws .accounts is a list of account numbers"],
    [{ aws: { accounts: ["123456789012"], regions: "eu-west-1" } }, "aws .regions is a list of regions"],
    [{ aws: { accounts: ["123456789012"], max_age: "soon" } }, "aws .max_age is a duration"],
    [{ azure: {} }, 'a key "azure" that is not known'],
    [{ gcp: { project: ["a"] } }, "did you mean projects?"],
  ])("%j is told to be wrong", (content, expected) => {
    const problems: { message: string }[] = [];
    readJoinPolicy(content, "join", problems);
    expect(problems.map(({ message }) => message).join("\n")).toContain(expected);
  });
});

function reader(of: AwsRegion) {
  const certificates = readRegionCertificates(of.certificatesPem);
  const keysOf = (name: string) => certificates.get(name);
  const refusalOf = (text: string): string | undefined => {
    try {
      readAwsDocument(text, keysOf);
      return undefined;
    } catch (error) {
      if (error instanceof MigError) return error.message;
      throw error;
    }
  };
  return { keysOf, refusalOf };
}
