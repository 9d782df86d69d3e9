/**
 * The version of what a MIGlet and a controller say to each other: one integer, one dated line a step. Fields are
 * only added, so a peer of another version still works; the number tells which additions it knows.
 *
 *   0  agents and controllers from before MIG (reference/go-agent-wire.md)
 *   1  2026-11-21  event ids, sequence numbers and acknowledgements, heartbeat replies, two-step command
 *                  answers, go-away, parameters as one object
 */
export const PROTOCOL_VERSION = 1;

/** What `connect_ack.server_version` and `GET /health` say. */
export const PRODUCT_VERSION = "0.1.0";
