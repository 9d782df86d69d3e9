import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createTestCa, type NatsServer, startNatsServer } from "@mig/sandbox";
import { encodeAccount, encodeOperator, encodeUser, fmtCreds } from "@nats-io/jwt";
import { createAccount, createOperator, createUser } from "@nats-io/nkeys";
import { type Authenticator, credsAuthenticator } from "@nats-io/transport-node";

/** A nats-server in operator mode: nobody comes in but by a JWT of the account, as docs/operate/nats.md sets it up. */
export interface OperatedNats {
  readonly server: NatsServer;
  /** Of mig-controller. */
  readonly flags: readonly string[];
  /** Somebody who may do everything in the account. */
  readonly admin: Authenticator;
  /** The server speaks TLS with an authority of its own. */
  readonly ca: string;
}

const unlimited = { conn: -1, subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true };

export async function startOperatedNats(dir: string): Promise<OperatedNats> {
  const operator = createOperator();
  const account = createAccount();
  const signing = createAccount();
  const system = createAccount();
  const user = createUser();
  const accountJwt = await encodeAccount(
    "mig",
    account,
    {
      limits: { ...unlimited, mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 },
      signing_keys: [signing.getPublicKey()],
    },
    { signer: operator },
  );
  const systemJwt = await encodeAccount("system", system, { limits: unlimited }, { signer: operator });
  const ca = await createTestCa();
  const { certPem, keyPem } = await ca.issue({ hosts: ["localhost"] });
  const [caPath, certPath, keyPath] = ["ca.pem", "nats.crt", "nats.key"].map((name) => join(dir, name));
  await writeFile(String(caPath), ca.caPem);
  await writeFile(String(certPath), certPem);
  await writeFile(String(keyPath), keyPem, { mode: 0o600 });
  const server = await startNatsServer(`
tls { cert_file: "${certPath}", key_file: "${keyPath}" }
operator: ${await encodeOperator("mig", operator, { system_account: system.getPublicKey() })}
system_account: ${system.getPublicKey()}
resolver: MEMORY
resolver_preload: {
  ${account.getPublicKey()}: ${accountJwt}
  ${system.getPublicKey()}: ${systemJwt}
}`);
  const creds = fmtCreds(await encodeUser("controller", user, account), user);
  const seedPath = join(dir, "account.seed");
  const credsPath = join(dir, "controller.creds");
  await writeFile(seedPath, signing.getSeed(), { mode: 0o600 });
  await writeFile(credsPath, creds, { mode: 0o600 });
  return {
    server,
    ca: ca.caPem,
    admin: credsAuthenticator(creds),
    flags: [
      ...[
        "--nats-url",
        server.url.replace("nats://127.0.0.1", "tls://localhost"),
        "--nats-ca-file",
        String(caPath),
      ],
      ...["--nats-credentials-file", credsPath],
      ...["--nats-account-seed-file", seedPath, "--nats-account", account.getPublicKey()],
    ],
  };
}
