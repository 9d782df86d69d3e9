import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { type MetadataServer, startMetadataServer } from "../cloud/metadata-server.ts";

/** A key of an issuer; `alg` as in RFC 7518 and RFC 8037. */
export interface IssuerKey {
  readonly kid: string;
  readonly alg: "RS256" | "ES256" | "EdDSA";
  readonly privateKey: KeyObject;
}

export interface OidcIssuer extends MetadataServer {
  /** What `iss` and the discovery document say; the same as `url`. */
  readonly issuer: string;
  readonly keysUrl: string;
  /** What it signs with now. */
  readonly key: IssuerKey;
  /** It signs with a new key from now on, and publishes that one only. */
  rotate(alg?: IssuerKey["alg"]): IssuerKey;
  /** A key that is not published. */
  makeKey(alg?: IssuerKey["alg"]): IssuerKey;
  /** A signed token: what a good one says for an hour, with `claims` over it; undefined leaves a claim out. */
  token(claims?: Readonly<Record<string, unknown>>, how?: TokenOptions): string;
}

export interface TokenOptions {
  readonly key?: IssuerKey;
  /** Over the header; undefined leaves a parameter out. */
  readonly header?: Readonly<Record<string, unknown>>;
  /** In place of the signature by the key. */
  readonly seal?: (input: string) => Buffer;
  readonly nowMs?: number;
}

/**
 * An OpenID provider as far as whoever verifies its tokens sees it: a discovery document (Discovery 1.0 §4), a JWK set,
 * and tokens. It signs whatever it is asked to, so that wrong tokens can be made too.
 */
export async function startOidcIssuer(audience: string): Promise<OidcIssuer> {
  const makeKey = (alg: IssuerKey["alg"] = "ES256"): IssuerKey => {
    const { privateKey } =
      alg === "RS256"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : alg === "ES256"
          ? generateKeyPairSync("ec", { namedCurve: "P-256" })
          : generateKeyPairSync("ed25519");
    return { kid: randomBytes(6).toString("hex"), alg, privateKey };
  };
  let current = makeKey();
  const server = await startMetadataServer((_request, { pathname }) => {
    const json = (content: object) => ({
      status: 200,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(content),
    });
    if (pathname === "/.well-known/openid-configuration")
      return json({ issuer: server.url, jwks_uri: `${server.url}/keys` });
    if (pathname !== "/keys") return { status: 404 };
    const { kid, alg, privateKey } = current;
    const jwk = createPublicKey(privateKey).export({ format: "jwk" });
    return json({ keys: [{ ...jwk, kid, alg, use: "sig" }] });
  });
  return {
    ...server,
    issuer: server.url,
    keysUrl: `${server.url}/keys`,
    get key() {
      return current;
    },
    rotate(alg) {
      current = makeKey(alg);
      return current;
    },
    makeKey,
    token(claims = {}, { key = current, header = {}, seal, nowMs = Date.now() } = {}) {
      const nowS = Math.floor(nowMs / 1000);
      const head = { alg: key.alg, typ: "JWT", kid: key.kid, ...header };
      const body = { iss: server.url, aud: audience, sub: "4711", iat: nowS, exp: nowS + 3_600, ...claims };
      const input = `${encode(head)}.${encode(body)}`;
      const signature = seal?.(input) ?? signWith(key, input);
      return `${input}.${signature.toString("base64url")}`;
    },
  };
}

const encode = (content: object): string => Buffer.from(JSON.stringify(content)).toString("base64url");

function signWith({ alg, privateKey }: IssuerKey, input: string): Buffer {
  const bytes = Buffer.from(input);
  return alg === "EdDSA"
    ? sign(null, bytes, privateKey)
    : sign("sha256", bytes, { key: privateKey, dsaEncoding: "ieee-p1363" });
}
