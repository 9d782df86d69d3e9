import { MigError } from "@mig/lifecycle";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { examples, parseReference, parseSignerReference, type Reference } from "../src/secrets/reference.ts";

const problemOf = (text: string): string => {
  try {
    parseReference(text);
  } catch (error) {
    if (error instanceof MigError && error.code === "settings_invalid") return error.message;
    throw error;
  }
  throw new Error(`${text} should have been refused`);
};

/** Any text of the given letters, also those that must be escaped. */
const word = (letters: string, max: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...letters), minLength: 1, maxLength: max });
const lower = "abcdefghijklmnopqrstuvwxyz0123456789";
const wild = `${lower}ABC .-_~%#?&=/+:@é漢`;
const piece = word(wild, 12).filter((text) => !text.includes("/") && text !== "." && text !== "..");
const number = fc.integer({ min: 1, max: 999_999 }).map(String);
const option = (name: string, value: fc.Arbitrary<string>): fc.Arbitrary<string[]> =>
  fc.option(value).map((text) => (text === null ? [] : [`${name}=${encodeURIComponent(text)}`]));
const query = (...options: fc.Arbitrary<string[]>[]): fc.Arbitrary<string> =>
  fc.tuple(...options).map((given) => (given.flat().length === 0 ? "" : `?${given.flat().join("&")}`));
const toEscaped = (text: string): string => encodeURIComponent(text);

const references: fc.Arbitrary<string> = fc.oneof(
  fc
    .tuple(
      word(lower, 20),
      fc.option(fc.constant("europe-west1")),
      word(`${lower}_-`, 30),
      fc.option(fc.oneof(number, fc.constant("latest"))),
    )
    .map(
      ([project, location, secret, version]) =>
        `gcpsm://projects/${project}${location === null ? "" : `/locations/${location}`}/secrets/${secret}${version === null ? "" : `/versions/${version}`}`,
    ),
  fc
    .tuple(
      word(`${lower}/_+=.@-`, 40),
      query(option("region", fc.constant("eu-west-1")), option("stage", fc.constant("AWSPREVIOUS"))),
      fc.option(piece),
    )
    .filter(([id]) => !id.startsWith("arn:"))
    .map(([id, options, key]) => `awssm://${id}${options}${key === null ? "" : `#${toEscaped(key)}`}`),
  fc
    .tuple(
      fc.array(piece, { minLength: 2, maxLength: 4 }).filter(([, next]) => next !== "data"),
      query(option("version", number), option("namespace", word(lower, 9))),
      piece,
    )
    .map(
      ([path, options, field]) => `vault://${path.map(toEscaped).join("/")}${options}#${toEscaped(field)}`,
    ),
  fc
    .tuple(
      word(lower, 20),
      word(lower, 20),
      query(
        option(
          "mount",
          piece.map((text) => `/${text}`),
        ),
      ),
      word(`${lower}_-`, 20),
    )
    .map(([namespace, name, options, key]) => `k8s://${namespace}/${name}${options}#${key}`),
  fc.array(piece, { minLength: 1, maxLength: 4 }).map((path) => `file:///${path.map(toEscaped).join("/")}`),
  word("ABC_", 12).map((name) => `env://${name}`),
  fc
    .tuple(fc.array(word(lower, 12), { minLength: 1, maxLength: 4 }), query(option("version", number)))
    .map(([path, options]) => `db://${path.join("/")}${options}`),
);

describe("a reference", () => {
  it("is read, and written in one way that reads the same", () => {
    fc.assert(
      fc.property(references, (text) => {
        const reference = parseReference(text);
        expect(parseReference(reference.text)).toEqual(reference);
      }),
      { numRuns: 2_000 },
    );
  });

  it("is understood or refused with settings_invalid, whatever it is", () => {
    const mangled = fc
      .tuple(references, fc.nat(), fc.string({ unit: "binary", maxLength: 3 }))
      .map(([text, at, junk]) => {
        const cut = at % (text.length + 1);
        return text.slice(0, cut) + junk + text.slice(cut + (at % 3));
      });
    const anything = fc.oneof(
      mangled,
      fc.string({ unit: "binary" }),
      fc.tuple(fc.constantFrom(...Object.values(examples)), fc.string()).map((it) => it.join("")),
    );
    fc.assert(
      fc.property(anything, (text) => {
        let reference: Reference;
        try {
          reference = parseReference(text);
        } catch (error) {
          expect(error).toBeInstanceOf(MigError);
          expect((error as MigError).code).toBe("settings_invalid");
          expect((error as MigError).message).toMatch(/:\/\//);
          return;
        }
        expect(parseReference(reference.text)).toEqual(reference);
        if (reference.scheme === "file") expect(reference.path.split("/")).not.toContain("..");
      }),
      { numRuns: 5_000 },
    );
  });

  it("has the examples that the errors show", () => {
    for (const [scheme, text] of Object.entries(examples)) {
      const read = scheme === "vault-transit" ? parseSignerReference(text) : parseReference(text);
      expect(read.scheme).toBe(scheme);
    }
  });

  it("means what it says", () => {
    expect(parseReference("gcpsm://projects/p1/locations/europe-west1/secrets/S")).toEqual({
      scheme: "gcpsm",
      text: "gcpsm://projects/p1/locations/europe-west1/secrets/S/versions/latest",
      project: "p1",
      location: "europe-west1",
      secret: "S",
      version: "latest",
    });
    const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/app-AbCdEf";
    expect(parseReference(`awssm://${arn}#private_key`)).toEqual({
      scheme: "awssm",
      text: `awssm://${arn}#private_key`,
      id: arn,
      region: "eu-west-1",
      jsonKey: "private_key",
    });
    expect(parseReference("vault://team%2Fkv/a/b?version=3&namespace=ns1/ns2#f%20g")).toEqual({
      scheme: "vault",
      text: "vault://team%2Fkv/a/b?version=3&namespace=ns1%2Fns2#f%20g",
      mount: "team/kv",
      path: "a/b",
      field: "f g",
      version: "3",
      namespace: "ns1/ns2",
    });
    expect(parseReference("file:///etc/mig/a%20b.pem")).toMatchObject({ path: "/etc/mig/a b.pem" });
  });

  it.each([
    ["gcpsm://projects/p1/secret/S", /path .* is projects\/PROJECT/],
    ["gcpsm://projects/p1/secrets/S/versions/0", /version .*"latest", a number or an alias; found "0"/],
    ["gcpsm://projects/P 1/secrets/S", /visible ASCII/],
    ["awssm://arn:aws:s3:eu-west-1:1:secret:x", /ARN .* is arn:aws:secretsmanager/],
    ["awssm://name#key?stage=AWSCURRENT", /fragment .* comes last: write \?option=value before #/],
    ["awssm://name?stage=A&version=12345678901234567890123456789012", /version .* excludes stage/],
    ["awssm://name?colour=red", /query .* knows region, stage, version; found "colour"/],
    ["vault://secret/app", /fragment .* names the field/],
    ["vault://secret#f", /path .* mount and the path/],
    ["vault://secret/data/app#f", /has no data\/ after the mount/],
    ["vault://secret/../app#f", /empty piece/],
    ["vault://secret/a%2F..%2Fb#f", /empty piece/],
    ["k8s://mig/github-app", /fragment .* the key/],
    ["k8s://Mig/app#k", /namespace .* DNS label; found "Mig"/],
    ["k8s://mig/app?mount=relative#k", /mount .* absolute path/],
    ["file://etc/app.pem", /three slashes/],
    ["file:///etc/%zz", /percent-encoded/],
    ["file:///etc/%00", /control characters/],
    ["env://1ABC", /environment variable/],
    ["db://App/1", /name .* one to four words/],
    ["db://app/1?version=0", /version .* is a number/],
    ["vault-transit://transit/key", /only signs/],
  ])("%s is refused with the wrong part and a right example", (text, why) => {
    const problem = problemOf(text);
    expect(problem).toMatch(why);
    expect(problem).toMatch(/, as in "[a-z0-9-]+:\/\//);
  });

  it("quotes nothing of what has no scheme: it may be the secret itself", () => {
    const pasted = `ghs_${"notAReference0123456789".repeat(2)}`;
    for (const text of [pasted, `https://${pasted}`, `-----BEGIN KEY-----\n${pasted}`, `VAULT://${pasted}`]) {
      expect(problemOf(text)).not.toContain(pasted.slice(4));
      expect(problemOf(text)).toContain("it must begin with gcpsm://");
    }
    expect(problemOf(`env://${pasted}-`)).not.toContain(pasted);
  });
});
