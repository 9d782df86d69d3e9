/** GitHub's own answers are a few kilobytes; a page of a hundred runners is some eighty. */
const answerBytesMax = 1024 * 1024;
const redirectsMax = 3;

/**
 * `fetch` for answers that nobody has to trust: of bounded length, after decompression too, and followed only within
 * the same host, because a token goes to the host that it is for and nowhere else (a renamed repository answers 301).
 */
export async function boundedFetch(url: string, init: RequestInit): Promise<Response> {
  let at = url;
  for (let hop = 0; ; hop += 1) {
    const response = await fetch(at, { ...init, redirect: "manual" });
    const next = redirectOf(response, at, init.method ?? "GET");
    if (next === undefined) return wholeOf(response);
    await response.body?.cancel();
    if (hop >= redirectsMax) throw new Error(`more than ${redirectsMax} redirects`);
    at = next;
  }
}

/** 301 and 302 would turn a POST into a GET: only 307 and 308 repeat it (RFC 9110 §15.4). */
function redirectOf(response: Response, from: string, method: string): string | undefined {
  const { status } = response;
  if (![301, 302, 307, 308].includes(status)) return undefined;
  const to = response.headers.get("location");
  const target = to !== null && URL.canParse(to, from) ? new URL(to, from) : undefined;
  if (target === undefined) throw new Error("a redirect to nowhere");
  if (target.origin !== new URL(from).origin) throw new Error("a redirect to another host was refused");
  if (status < 307 && method !== "GET" && method !== "HEAD")
    throw new Error(`a redirect (${status}) of a ${method} was refused`);
  return target.href;
}

async function wholeOf(response: Response): Promise<Response> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > answerBytesMax) throw new Error(`the answer is longer than ${answerBytesMax} bytes`);
    chunks.push(chunk);
  }
  const { status, statusText, headers } = response;
  const isEmpty = status === 204 || status === 205 || status === 304;
  return new Response(isEmpty ? null : Buffer.concat(chunks), { status, statusText, headers });
}
