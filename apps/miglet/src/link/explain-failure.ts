/**
 * What a failed connection means for whoever has to mend it. The codes are those of Node and of Bun, whose words
 * differ: Bun says TLSV1_ALERT where Node says TLSV13_ALERT, and Node sometimes hides OpenSSL's reason behind EPROTO.
 */
const meanings: readonly (readonly [RegExp, string])[] = [
  [
    /UNABLE_TO_VERIFY_LEAF|SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER|CERT_SIGNATURE_FAILURE|CERT_UNTRUSTED|INVALID_CA|CERT_CHAIN_TOO_LONG|INVALID_PURPOSE/,
    "its certificate is not signed by an authority that this VM trusts: set controller.ca_path to the PEM file of the authority that signed it",
  ],
  [
    /CERT_HAS_EXPIRED/,
    "its certificate has expired: renew it at the controller, or set this VM's clock if that is wrong",
  ],
  [
    /CERT_NOT_YET_VALID/,
    "its certificate is not valid yet: set this VM's clock, or look at what the controller was given",
  ],
  [
    /ALTNAME_INVALID|HOSTNAME_MISMATCH/,
    "its certificate is for another name: use a name of the certificate in the address, or give the controller a certificate for this one",
  ],
  [
    /WRONG_VERSION_NUMBER|wrong version number|PACKET_LENGTH_TOO_LONG|packet length too long|HTTP_REQUEST|http request/,
    "it does not speak TLS: use the port that does; http:// only if it is meant to be plaintext",
  ],
  [
    /ALERT_PROTOCOL_VERSION|alert protocol version|UNSUPPORTED_PROTOCOL|unsupported protocol|NO_PROTOCOLS_AVAILABLE/,
    "it does not speak TLS 1.2 or newer, and nothing older is spoken: update what answers there",
  ],
  [
    /NO_APPLICATION_PROTOCOL|no application protocol|h2 is not supported|ERR_HTTP2_ERROR/,
    "it does not speak HTTP/2 as gRPC needs it: check controller.grpc_endpoint and whether a proxy stands between",
  ],
  [
    /CA_PIN_MISMATCH|the pinned key/,
    "it is not the controller of controller.tls.ca_pin, although this VM trusts its authority: check the address; the pin only if that authority was replaced",
  ],
  [
    /CERTIFICATE_REQUIRED|certificate required|BAD_CERTIFICATE|bad certificate|ALERT_UNKNOWN_CA|alert unknown ca|ALERT_CERTIFICATE_|alert certificate|ALERT_HANDSHAKE_FAILURE|alert handshake failure/,
    "it does not accept this VM's client certificate, or misses one: check controller.tls.cert_path and controller.tls.key_path",
  ],
  [
    /HPE_INVALID|Expected HTTP|Parse Error|InvalidHTTPResponse|Malformed_HTTP/i,
    "it does not speak HTTP: check port and scheme of controller.endpoint; it may want https://",
  ],
  [/ECONNREFUSED|ConnectionRefused/, "nobody listens there: check host, port and firewall"],
  [/ENOTFOUND|EAI_AGAIN|EAI_FAIL|ENODATA/, "its name cannot be resolved: check the host and this VM's DNS"],
  [
    /EHOSTUNREACH|ENETUNREACH|ENETDOWN|EHOSTDOWN|EADDRNOTAVAIL/,
    "there is no way to it: check this VM's network and routes",
  ],
  [/ETIMEDOUT|ESOCKETTIMEDOUT/, "it does not answer: check host, port and firewall"],
  [
    /ECONNRESET|EPIPE|socket hang up|ConnectionClosed|ERR_HTTP2_STREAM_CANCEL/,
    "the connection broke before an answer; if that is always so, check the scheme (http or https), and whether it wants a client certificate (controller.tls.cert_path)",
  ],
];

/** A sentence without its end: the remedy when the failure is a known one, and always what the system said. */
export function explainFailure(error: unknown): string {
  const said = textOf(error);
  const meaning = meanings.find(([pattern]) => pattern.test(said))?.[1];
  const short = shorten(error);
  return meaning === undefined ? short : `${meaning} (${short})`;
}

/** Codes and messages of the whole chain of causes, since the runtime may have wrapped the one that tells. */
function textOf(error: unknown): string {
  const parts: string[] = [];
  for (let one = error, depth = 0; one instanceof Error && depth < 5; one = one.cause, depth += 1) {
    parts.push(codeOf(one) ?? "", one.message);
    // Several addresses of one name were tried.
    if (one instanceof AggregateError)
      for (const each of one.errors.slice(0, 4))
        parts.push(each instanceof Error ? `${codeOf(each) ?? ""} ${each.message}` : "");
  }
  return parts.length === 0 ? wordsOf(error) : parts.join(" ");
}

function codeOf(error: Error): string | undefined {
  const code: unknown = "code" in error ? error.code : undefined;
  return typeof code === "string" && /^\w{1,64}$/.test(code) ? code : undefined;
}

/** OpenSSL's messages hold addresses of memory, files of its source and an end of line. */
function shorten(error: unknown): string {
  const text = error instanceof Error ? error.message : wordsOf(error);
  const reason = /:SSL routines:[^:]*:([^:]+)/.exec(text)?.[1];
  const words = (reason ?? text)
    .replace(/\s+/g, " ")
    .replace(/[.;]\s*$/, "")
    .trim()
    .slice(0, 200);
  const code = error instanceof Error ? codeOf(error) : undefined;
  if (words === "") return code ?? "no reason was given";
  return code === undefined || words.includes(code) ? words : `${code}: ${words}`;
}

/** Not every object can become text. */
function wordsOf(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return "";
  }
}
