import { createHash, generateKeyPairSync, randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hideValue, REDACTED, redact, redactText } from "./index.ts";

const ofChars = (characters: string, minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...characters), { minLength, maxLength }).map((list) => list.join(""));
const upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const lower = upper.toLowerCase();
const digits = "0123456789";
const alnum = upper + lower + digits;
const base64Of = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64");
const json = fc.dictionary(ofChars(lower, 1, 8), fc.string({ maxLength: 30 }), { minKeys: 1, maxKeys: 5 });

const jwt = fc
  .tuple(json, json, ofChars(`${alnum}_-`, 20, 90))
  .map(
    ([head, body, signature]) =>
      `${Buffer.from(JSON.stringify({ alg: "ES256", ...head })).toString("base64url")}.${Buffer.from(JSON.stringify(body)).toString("base64url")}.${signature}`,
  );
/** Each as it is met in the wild, alone in its form. */
const secrets: Record<string, fc.Arbitrary<string>> = {
  "a GitHub token": fc
    .tuple(fc.constantFrom("ghp", "gho", "ghu", "ghs", "ghr"), ofChars(alnum, 36, 36))
    .map(([kind, rest]) => `${kind}_${rest}`),
  "a stateless GitHub token": fc
    .tuple(fc.integer({ min: 1, max: 9_999_999 }), jwt)
    .map(([app, rest]) => `ghs_${app}_${rest}`),
  "a fine-grained GitHub token": ofChars(`${alnum}_`, 59, 82).map((rest) => `github_pat_${rest}`),
  "a registration token": ofChars(upper + digits, 28, 28).map((rest) => `A${rest}`),
  "a token of ours": ofChars(alnum, 24, 43).map((rest) => `mgj_${rest}`),
  "a JWT": jwt,
  "a JIT config": json.map((body) => base64Of({ ".runner": base64Of(body), ".credentials": base64Of(body) })),
  "a JIT config with lines": json.map((body) =>
    Buffer.from(JSON.stringify({ ".runner": base64Of(body) }, null, 2)).toString("base64"),
  ),
  "a Vault token": ofChars(`${alnum}_-`, 20, 90).map((rest) => `hvs.${rest}`),
  "an AWS key id": ofChars(upper + digits, 16, 16).map((rest) => `AKIA${rest}`),
};
/** What stands before and after a secret in a line of text. */
const around = fc.constantFrom(
  ["", ""],
  ["got ", " from GitHub"],
  ["(", ")"],
  ['"', '"'],
  ["x=", ";"],
  ["url/", "/end"],
  ["at\n", "\n"],
  ["_", " "],
);

describe("a secret is found by its look", () => {
  for (const [name, secret] of Object.entries(secrets))
    it(`${name}, wherever it stands`, () => {
      fc.assert(
        fc.property(secret, around, (value, [before = "", after = ""]) => {
          const shown = redactText(`${before}${value}${after}`);
          expect(shown).toContain(REDACTED);
          // No part that could help: not even a quarter of it.
          for (let at = 0; at + 12 <= value.length; at += 4)
            expect(shown).not.toContain(value.slice(at, at + 12));
        }),
      );
    });

  it("private keys of every kind, whole, cut off, and escaped in JSON", () => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
    for (const type of ["pkcs1", "pkcs8"] as const) {
      const pem = privateKey.export({ type, format: "pem" }).toString();
      const body = pem.split("\n")[2] ?? "";
      const texts = [
        pem,
        pem.slice(0, 300),
        JSON.stringify({ note: pem }),
        pem.split("\n").slice(1, -2).join(""),
      ];
      for (const text of texts) expect(redactText(`read ${text} and`)).not.toContain(body);
      expect(redactText(`a ${pem} b`)).toMatch(/^a \[secret\]\s+b$/);
    }
  });

  const password = ofChars(`${alnum}-._~!$()*+%`, 8, 40).filter((text) => /[0-9A-Z]/.test(text));
  const carriers: Record<string, (secret: string) => string> = {
    "basic auth in a URL": (secret) => `cloning https://bot:${encodeURIComponent(secret)}@host.example/x.git`,
    "a token as the user of a URL": (secret) =>
      `postgres://${encodeURIComponent(secret)}@db.example:5432/mig`,
    "a query parameter": (secret) => `GET /a?b=1&access_token=${encodeURIComponent(secret)}&c=2`,
    "the first query parameter": (secret) => `GET /a?token=${encodeURIComponent(secret)} 200`,
    "a signature in a query": (secret) => `https://blob.example/f?se=1&sig=${encodeURIComponent(secret)}`,
    "a bearer header": (secret) => `Authorization: Bearer ${secret}`,
    "a bearer header in small letters": (secret) => `authorization: bearer ${secret}`,
    "a bearer token alone": (secret) => `with Bearer ${secret} sent`,
    "a basic header": (secret) =>
      `Authorization: Basic ${Buffer.from(`x-access-token:${secret}`).toString("base64")}`,
    "basic credentials alone": (secret) =>
      `sent Basic ${Buffer.from(`bot:${secret}`).toString("base64")} there`,
    "a cookie": (secret) => `Cookie: session=${secret}; theme=dark`,
    "an assignment": (secret) => `ACTIONS_RUNNER_INPUT_TOKEN=${secret} ./config.sh`,
    "an argument": (secret) => `./config.sh --unattended --token ${secret} --name r`,
    "an argument with =": (secret) => `./run.sh --jitconfig=${secret}`,
    "JSON in a text": (secret) => `answered {"token": ${JSON.stringify(secret)}, "expires_at": "x"}`,
    "JSON in JSON": (secret) => JSON.stringify({ body: JSON.stringify({ access_token: secret }) }),
    "a key in the spelling of JavaScript": (secret) => `{"registrationToken":"${secret}"}`,
  };
  for (const [name, carry] of Object.entries(carriers))
    it(name, () => {
      fc.assert(
        fc.property(password, (secret) => {
          const shown = redactText(carry(secret));
          expect(shown).toContain(REDACTED);
          for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString("base64")])
            expect(shown).not.toContain(form);
        }),
      );
    });
});

describe("ordinary text is left alone", () => {
  const harmless: Record<string, fc.Arbitrary<string>> = {
    "a UUID": fc.constant(0).map(() => randomUUID()),
    "a SHA-1, SHA-256 or SHA-512": fc
      .tuple(fc.string(), fc.constantFrom("sha1", "sha256", "sha512"))
      .map(([text, kind]) => createHash(kind).update(text).digest("hex")),
    "a SHA in capitals": fc
      .tuple(fc.string(), fc.constantFrom("sha1", "sha256"))
      .map(([text, kind]) => createHash(kind).update(text).digest("hex").toUpperCase()),
    "a time, a number, a version": fc.oneof(
      fc
        .date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })
        .map((date) => date.toISOString()),
      fc.integer().map(String),
      fc.constant("2.336.0"),
    ),
    words: fc.array(ofChars(lower, 1, 12), { minLength: 1, maxLength: 12 }).map((list) => list.join(" ")),
    "a path": fc.array(ofChars(`${lower}${digits}-_.`, 1, 12), { minLength: 1, maxLength: 6 }).map((list) => {
      const path = `/${list.join("/")}`;
      return path;
    }),
    "a URL": fc
      .tuple(ofChars(lower, 1, 10), ofChars(lower, 1, 10), fc.nat(65_535))
      .map(([host, path, port]) => `https://${host}.example:${port}/${path}?page=2&state=idle#top`),
  };
  for (const [name, text] of Object.entries(harmless))
    it(name, () => {
      fc.assert(
        fc.property(text, (value) => {
          expect(redactText(value)).toBe(value);
        }),
      );
    });
  it.each([
    "The Bearer token expired; basic authentication is not used.",
    "bearer sends the token of controller.auth.token_path",
    'WWW-Authenticate: Bearer realm="mig"',
    "git+ssh://git@github.com/acme/repo.git",
    "someone@example.com asked for a token",
    "controller.auth.token_path is /etc/miglet/token",
    "use --token to give it, or the flag --controller.auth.token.",
    '{"token_path":"/run/token","tokens_left":"5"}',
    "GITHUB_RUN_ID=17 job_id=build-1",
    "The key of the registry key was pressed",
    "eyes are eyeing eyewitnesses; ewoks too",
    "vm-1-runner.pool_A.ABCDEFGHIJKLMNOPQRSTUVWXYZ",
  ])("%s", (text) => {
    expect(redactText(text)).toBe(text);
  });
});

describe("a live value", () => {
  it("is hidden in every form that it takes in a text, until it is forgotten by all who hold it", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", minLength: 6, maxLength: 60 }),
        fc.string({ maxLength: 20 }),
        (secret, other) => {
          const text = `${other} ${secret} ${JSON.stringify({ a: secret })}`;
          const [forgetOne, forgetOther] = [hideValue(secret), hideValue(secret)];
          const isFound = (): boolean => redactText(text).includes(secret);
          expect(isFound()).toBe(false);
          forgetOne();
          forgetOne();
          expect(isFound()).toBe(false);
          forgetOther();
        },
      ),
    );
    const forget = hideValue("s+p/a ß?");
    for (const form of [
      encodeURIComponent("s+p/a ß?"),
      Buffer.from("s+p/a ß?").toString("base64"),
      Buffer.from("s+p/a ß?").toString("base64url"),
    ])
      expect(redactText(`x=${form}`)).toBe(`x=${REDACTED}`);
    forget();
    expect(redactText("s+p/a ß?")).toBe("s+p/a ß?");
  });

  it("that contains another is hidden whole, and the cut of a long text leaves no half of it", () => {
    const forget = [hideValue("abc-def"), hideValue("abc-def-ghi jkl"), hideValue("0123 4567 89ab")];
    expect(redactText("<abc-def-ghi jkl>")).toBe(`<${REDACTED}>`);
    for (let lead = 8_170; lead <= 8_192; lead += 1) {
      const shown = JSON.stringify(
        redact({ note: `${"x ".repeat(lead / 2)}${lead % 2 ? "-" : ""}0123 4567 89ab` }),
      );
      expect(shown).not.toContain("0123 4");
    }
    for (const call of forget) call();
  });
});

describe("an object", () => {
  it("loses what has the name of a secret, in every spelling, and keeps what only sounds like one", () => {
    const names =
      "token registration_token accessToken X-Auth-Token password DB_PASSWORD encodedJitConfig privateKey private-key authorization Proxy-Authorization Cookie Set-Cookie api_key apiKey github.auth.token clientSecret credentials passphrase tokens".split(
        " ",
      );
    for (const name of names) expect(redact({ [name]: "plain" }), name).toEqual({ [name]: REDACTED });
    const harmless = {
      token_path: "/x",
      token_source: "controller",
      secretary: "y",
      keyboard: "z",
      tokened: 1,
    };
    expect(redact(harmless)).toEqual(harmless);
    const absent = { token: undefined, secret: "", password: null, redact_secrets: true };
    expect(redact(absent)).toEqual(absent);
    expect(redact({ token: { value: "plain" } })).toEqual({ token: REDACTED });
  });

  it("is shown as far as it can be, whatever it is", () => {
    const throwing = {
      get bad() {
        throw new Error("no");
      },
    };
    const token = `ghs_${"a1".repeat(18)}`;
    const shown = redact({
      bytes: Buffer.from(token),
      url: new URL("https://u:p@h.example/"),
      at: new Date(0),
      map: new Map([[token, token]]),
      set: new Set([1n]),
      throwing,
      errors: new AggregateError([new Error(token)], "two", { cause: { password: "plain" } }),
    });
    expect(shown).toMatchObject({
      bytes: "[40 bytes]",
      url: `https://${REDACTED}@h.example/`,
      at: "1970-01-01T00:00:00.000Z",
      map: { [REDACTED]: REDACTED },
      set: ["1"],
      throwing: "[unreadable]",
      errors: { errors: [{ message: REDACTED }], cause: { password: REDACTED } },
    });
  });

  it("that is wide at each depth costs a bounded time", () => {
    let wide: unknown = "x";
    for (let depth = 0; depth < 6; depth += 1) wide = new Array(100).fill(wide);
    expect(JSON.stringify(redact(wide)).length).toBeLessThan(300_000);
  });
});

it("text that is made to be slow to search is not", () => {
  for (const part of ["a-", "://", '"token"', "--token ", "Bearer ", "ey.", "x@", "token", "a.b=", "eyJ"]) {
    const before = performance.now();
    redactText(part.repeat(8192 / part.length));
    // Generous: quadratic would be a thousand times more.
    expect(performance.now() - before, part).toBeLessThan(1_000);
  }
});
