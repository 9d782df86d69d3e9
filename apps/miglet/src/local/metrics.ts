import type { JobUsage, VmHealth } from "@mig/protocol";

/** What the agent knows of itself and its machine at one moment. */
export interface Figures {
  readonly version: string;
  readonly state: string;
  readonly states: readonly string[];
  readonly isLinked: boolean;
  readonly isBusy: boolean;
  readonly spool: {
    readonly pending: number;
    readonly bytes: number;
    readonly inMemory: number;
    readonly degraded: boolean;
  };
  readonly events: number;
  readonly commands: Readonly<Record<string, number>>;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
  readonly uptimeSeconds: number;
  readonly skewMs?: number | undefined;
  readonly health?: VmHealth | undefined;
  readonly jobs: number;
  readonly lastJob?: (JobUsage & { readonly durationMs?: number }) | undefined;
}

/** Prometheus text exposition 0.0.4, small enough to write by hand: a client library costs the agent a megabyte. */
export function renderMetrics(figures: Figures): string {
  const lines: string[] = [];
  const metric = (
    name: string,
    type: "gauge" | "counter",
    help: string,
    samples: readonly Sample[],
  ): void => {
    const known = samples.filter(({ value }) => value !== undefined && Number.isFinite(value));
    if (known.length === 0) return;
    lines.push(`# HELP miglet_${name} ${help}`, `# TYPE miglet_${name} ${type}`);
    for (const { labels = {}, value } of known) lines.push(`miglet_${name}${renderLabels(labels)} ${value}`);
  };
  const one = (value: number | undefined): Sample[] => [{ value }];
  const { spool, health, lastJob } = figures;
  metric("info", "gauge", "Version of the agent.", [{ labels: { version: figures.version }, value: 1 }]);
  metric(
    "state",
    "gauge",
    "1 for the state that the agent is in.",
    figures.states.map((state) => ({ labels: { state }, value: state === figures.state ? 1 : 0 })),
  );
  metric("link_up", "gauge", "A channel to the controller is open.", one(Number(figures.isLinked)));
  metric("job_running", "gauge", "The runner has a job.", one(Number(figures.isBusy)));
  metric("jobs_total", "counter", "Jobs that have ended.", one(figures.jobs));
  metric("events_total", "counter", "Events that were recorded.", one(figures.events));
  metric("spool_events", "gauge", "Events that the controller has not acknowledged.", one(spool.pending));
  metric("spool_bytes", "gauge", "Their size.", one(spool.bytes));
  metric(
    "spool_memory_events",
    "gauge",
    "Those of them that wait in memory, because the disk refuses.",
    one(spool.inMemory),
  );
  metric("spool_degraded", "gauge", "The disk refuses events.", one(Number(spool.degraded)));
  metric(
    "commands_total",
    "counter",
    "Commands by what became of them.",
    Object.entries(figures.commands).map(([outcome, value]) => ({ labels: { outcome }, value })),
  );
  metric(
    "clock_skew_seconds",
    "gauge",
    "This machine's clock minus the controller's.",
    one(figures.skewMs === undefined ? undefined : figures.skewMs / 1000),
  );
  metric("process_resident_bytes", "gauge", "Memory of the agent itself.", one(figures.residentBytes));
  metric("process_cpu_seconds_total", "counter", "CPU time of the agent itself.", one(figures.cpuSeconds));
  metric("process_uptime_seconds", "gauge", "Since the agent's process started.", one(figures.uptimeSeconds));
  metric("host_cpu_percent", "gauge", "CPU of the machine.", one(health?.cpuUsagePercent));
  metric("host_load1", "gauge", "Load average of one minute.", one(health?.cpuLoad));
  metric("host_memory_used_bytes", "gauge", "Memory that is not available.", one(health?.memoryUsedBytes));
  metric("host_memory_total_bytes", "gauge", "Memory of the machine.", one(health?.memoryTotalBytes));
  metric("host_disk_used_bytes", "gauge", "Of the runner's disk.", one(health?.diskUsedBytes));
  metric("host_disk_total_bytes", "gauge", "Of the runner's disk.", one(health?.diskTotalBytes));
  metric(
    "host_network_received_bytes_total",
    "counter",
    "All interfaces but loopback.",
    one(health?.networkReceivedBytes),
  );
  metric(
    "host_network_sent_bytes_total",
    "counter",
    "All interfaces but loopback.",
    one(health?.networkSentBytes),
  );
  metric(
    "last_job_duration_seconds",
    "gauge",
    "Of the job that ended last.",
    one(lastJob?.durationMs === undefined ? undefined : lastJob.durationMs / 1000),
  );
  metric("last_job_cpu_seconds", "gauge", "Of the job that ended last.", one(lastJob?.cpuSeconds));
  metric("last_job_peak_memory_bytes", "gauge", "Of the job that ended last.", one(lastJob?.peakMemoryBytes));
  metric(
    "last_job_disk_written_bytes",
    "gauge",
    "Of the job that ended last.",
    one(lastJob?.diskWrittenBytes),
  );
  return `${lines.join("\n")}\n`;
}

interface Sample {
  labels?: Readonly<Record<string, string>>;
  value: number | undefined;
}

function renderLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n")}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}
