import { maybe } from "@mig/protocol";
import type { ReferenceOf, Scheme, SignerReference } from "./reference.ts";
import type { Parts } from "./reference-parts.ts";

/** What each kind of reference is made of. The order of the options is that of the canonical text. */
export const readers = { gcpsm, awssm, vault, k8s, file, env, db } satisfies {
  [S in Scheme]: (parts: Parts) => ReferenceOf<S>;
};

const namespacePattern = /^[A-Za-z0-9_-]+(?:\/[A-Za-z0-9_-]+)*\/?$/;
const digits = /^[1-9][0-9]{0,17}$/;

function gcpsm(parts: Parts): ReferenceOf<"gcpsm"> {
  parts.allow([]);
  parts.noFragment();
  const path = /^projects\/([^/]*)(?:\/locations\/([^/]*))?\/secrets\/([^/]*)(?:\/versions\/([^/]*))?$/.exec(
    parts.path,
  );
  if (path === null)
    throw parts.wrong("path", "is projects/PROJECT[/locations/LOCATION]/secrets/SECRET[/versions/VERSION]");
  const [, project = "", location, secret = "", version = "latest"] = path;
  parts.must(
    /^(?:[a-z0-9.-]{1,80}:)?[a-z0-9][a-z0-9-]{0,62}$/,
    project,
    "project",
    "is a project's id or number",
  );
  parts.must(/^[A-Za-z0-9_-]{1,255}$/, secret, "secret", "is letters, digits, - and _, at most 255");
  parts.must(
    /^(?:latest|[1-9][0-9]{0,17}|[A-Za-z][A-Za-z0-9_-]{0,62})$/,
    version,
    "version",
    'is "latest", a number or an alias',
  );
  if (location !== undefined)
    parts.must(/^[a-z]+-[a-z]+[0-9]{1,2}$/, location, "location", "is a region, as europe-west1");
  const at = location === undefined ? "" : `/locations/${location}`;
  return {
    scheme: "gcpsm",
    text: `gcpsm://projects/${project}${at}/secrets/${secret}/versions/${version}`,
    project,
    ...maybe("location", location),
    secret,
    version,
  };
}

function awssm(parts: Parts): ReferenceOf<"awssm"> {
  parts.allow(["region", "stage", "version"]);
  const id = parts.whole();
  const arn = /^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519}$/.exec(
    id,
  );
  if (id.startsWith("arn:") && arn === null)
    throw parts.wrong("ARN", "is arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME");
  if (arn === null)
    parts.must(/^[A-Za-z0-9/_+=.@!-]{1,512}$/, id, "name", "is letters, digits and /_+=.@!-, at most 512");
  const given = parts.option("region", /^[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}$/, "is a region, as eu-west-1");
  if (arn !== null && given !== undefined && given !== arn[1])
    throw parts.wrong("region", "is another one than the ARN names; leave it out");
  const stage = parts.option("stage", /^[A-Za-z0-9_+=.@-]{1,256}$/, "is a staging label, as AWSCURRENT");
  const version = parts.option("version", /^[A-Za-z0-9-]{32,64}$/, "is a version's id");
  if (stage !== undefined && version !== undefined)
    throw parts.wrong("version", "excludes stage; name one of them");
  const region = given ?? arn?.[1];
  const jsonKey = parts.fragment;
  return {
    scheme: "awssm",
    text: `awssm://${id}${query({ region: arn === null ? region : undefined, stage, version })}${hash(jsonKey)}`,
    id,
    ...maybe("region", region),
    ...maybe("stage", stage),
    ...maybe("version", version),
    ...maybe("jsonKey", jsonKey),
  };
}

function vault(parts: Parts): ReferenceOf<"vault"> {
  parts.allow(["version", "namespace"]);
  const [mount = "", ...rest] = parts.segments("path");
  if (rest.length === 0) throw parts.wrong("path", "is the engine's mount and the path in it, without data/");
  if (rest[0] === "data" && rest.length > 1)
    throw parts.wrong("path", "has no data/ after the mount: that is in the API's path, not in the secret's");
  const path = rest.join("/");
  const field = parts.needFragment("the field of the secret");
  const version = parts.option("version", digits, "is a number");
  const namespace = parts.option("namespace", namespacePattern, "is the path of a Vault namespace");
  return {
    scheme: "vault",
    text: `vault://${escapeOne(mount)}/${escapePath(path)}${query({ version, namespace })}${hash(field)}`,
    mount,
    path,
    field,
    ...maybe("version", version),
    ...maybe("namespace", namespace),
  };
}

function k8s(parts: Parts): ReferenceOf<"k8s"> {
  parts.allow(["mount"]);
  const [namespace = "", name = "", ...more] = parts.segments("path");
  if (name === "" || more.length > 0) throw parts.wrong("path", "is NAMESPACE/NAME");
  parts.must(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, namespace, "namespace", "is a DNS label");
  parts.must(/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/, name, "name", "is a DNS name");
  const key = parts.needFragment("the key in the secret's data");
  parts.must(/^(?!\.\.?$)[-._a-zA-Z0-9]{1,253}$/, key, "key", "is letters, digits and -._");
  const mount = parts.option(
    "mount",
    /^\/[^\0]*$/,
    "is the absolute path of the directory where it is mounted",
  );
  return {
    scheme: "k8s",
    text: `k8s://${namespace}/${name}${query({ mount })}${hash(key)}`,
    namespace,
    name,
    key,
    ...maybe("mount", mount),
  };
}

function file(parts: Parts): ReferenceOf<"file"> {
  parts.allow([]);
  parts.noFragment();
  if (!parts.path.startsWith("/")) throw parts.wrong("path", "is absolute: three slashes after file:");
  const path = `/${parts.segments("path").join("/")}`;
  return { scheme: "file", text: `file://${escapePath(path)}`, path };
}

function env(parts: Parts): ReferenceOf<"env"> {
  parts.allow([]);
  parts.noFragment();
  parts.must(/^[A-Za-z_][A-Za-z0-9_]{0,254}$/, parts.path, "name", "is that of an environment variable");
  return { scheme: "env", text: `env://${parts.path}`, name: parts.path };
}

export function readTransit(parts: Parts): SignerReference {
  parts.allow(["namespace"]);
  parts.noFragment();
  const [mount = "", key = "", ...more] = parts.segments("path");
  if (key === "" || more.length > 0) throw parts.wrong("path", "is the engine's mount and the key's name");
  parts.must(
    /^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?$/,
    key,
    "key",
    "is letters, digits and _.-",
  );
  const namespace = parts.option("namespace", namespacePattern, "is the path of a Vault namespace");
  return {
    scheme: "vault-transit",
    text: `vault-transit://${escapeOne(mount)}/${key}${query({ namespace })}`,
    mount,
    key,
    ...maybe("namespace", namespace),
  };
}

/** Names in the database: they are part of what an envelope is bound to. */
export const dbNamePattern = /^[a-z0-9][a-z0-9._-]{0,63}(?:\/[a-z0-9][a-z0-9._-]{0,63}){0,3}$/;

function db(parts: Parts): ReferenceOf<"db"> {
  parts.allow(["version"]);
  parts.noFragment();
  parts.must(
    dbNamePattern,
    parts.path,
    "name",
    "is one to four words of a-z, 0-9 and ._- with / between them",
  );
  const version = parts.option("version", digits, "is a number");
  const text = `db://${parts.path}${query({ version })}`;
  return { scheme: "db", text, name: parts.path, ...maybe("version", version) };
}

const escapeOne = (text: string): string => encodeURIComponent(text);
const escapePath = (path: string): string => path.split("/").map(escapeOne).join("/");
const hash = (text: string | undefined): string => (text === undefined ? "" : `#${encodeURIComponent(text)}`);

function query(options: Readonly<Record<string, string | undefined>>): string {
  const given = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`],
  );
  return given.length === 0 ? "" : `?${given.join("&")}`;
}
