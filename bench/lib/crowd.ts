import { pause } from "@mig/kit";
import { WebSocket } from "ws";

/**
 * Light clients: `crowd.ts URL VMS EVENTS_PER_MINUTE`. Each holds a WebSocket; together they send so many events a
 * minute, evenly, until SIGTERM. A process of its own, so that it does not slow what is measured.
 */
const [url = "", vms = "0", perMinute = "0"] = process.argv.slice(2);
const sockets: WebSocket[] = [];
let acked = 0;
for (let n = 0; n < Number(vms); n += 1) {
  const vmId = `crowd-${n}`;
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/api/v1/vms/${vmId}/commands/ws`, ["mig.v1"]);
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  const names = { vm_id: vmId, pool_id: "p", incarnation: "i-1" };
  const greeted = new Promise((resolve) => socket.once("message", resolve));
  socket.send(
    JSON.stringify({
      kind: "connect",
      ...names,
      version: "bench",
      protocol_version: 1,
      miglet_state: "idle",
    }),
  );
  await greeted;
  socket.on("message", () => {
    acked += 1;
  });
  sockets.push(socket);
}
say({ msg: "connected", vms: sockets.length });

const end = new AbortController();
process.once("SIGTERM", () => end.abort());
const beganMs = performance.now();
let sent = 0;
while (!end.signal.aborted) {
  const due = ((performance.now() - beganMs) / 60_000) * Number(perMinute);
  for (; sent < due; sent += 1) {
    const at = sent % sockets.length;
    const seq = Math.floor(sent / sockets.length) + 1;
    sockets[at]?.send(
      JSON.stringify({
        ...{ kind: "event", type: "job_heartbeat", vm_id: `crowd-${at}`, pool_id: "p", incarnation: "i-1" },
        ...{
          event_id: `crowd-${at}-${seq}`,
          seq,
          timestamp: new Date().toISOString(),
          job_id: "j",
          run_id: "1",
        },
      }),
    );
  }
  await pause(10, end.signal);
}
const seconds = (performance.now() - beganMs) / 1000;
say({ msg: "sent", events_per_minute: Math.round((sent / seconds) * 60), messages_back: acked });
for (const socket of sockets) socket.terminate();

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
