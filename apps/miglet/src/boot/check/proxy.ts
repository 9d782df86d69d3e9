/** The proxy that the environment names for this address, as the runner would choose it (runner-contract trap 43). */
export function proxyFor(
  url: URL,
  environment: Readonly<Record<string, string | undefined>>,
): URL | undefined {
  const read = (name: string): string => environment[name] ?? environment[name.toUpperCase()] ?? "";
  const text = read(url.protocol === "https:" ? "https_proxy" : "http_proxy").trim();
  if (text === "" || isExempt(url, read("no_proxy"))) return undefined;
  const full = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(full))
    throw new Error("The proxy of the environment is no URL: correct https_proxy and http_proxy.");
  return new URL(full);
}

/** Names and endings of names, with commas or blanks between; a port may follow; "*" is everything. */
function isExempt({ hostname, port, protocol }: URL, noProxy: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, "").toLowerCase();
  const actualPort = port === "" ? (protocol === "https:" ? "443" : "80") : port;
  return noProxy
    .split(/[\s,]+/)
    .filter((entry) => entry !== "")
    .some((entry) => {
      if (entry === "*") return true;
      const [, name = "", entryPort] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
      if (entryPort !== undefined && entryPort !== actualPort) return false;
      const ending = name.replace(/^\*?\.?/, "");
      return ending !== "" && (host === ending || host.endsWith(`.${ending}`));
    });
}
