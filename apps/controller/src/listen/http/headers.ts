/** On every answer: no cache may keep what an agent or an operator was told, least of all a grant. */
export function commonHeaders(requestId: string): Record<string, string> {
  return {
    "x-request-id": requestId,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  };
}

/** Over TLS only: whoever came so shall never come without again (RFC 6797). */
export const secureHeaders: Readonly<Record<string, string>> = {
  "strict-transport-security": "max-age=31536000",
};

export function isSecure(socket: object): boolean {
  return "encrypted" in socket && socket.encrypted === true;
}
