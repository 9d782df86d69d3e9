import { stat } from "node:fs/promises";
import type { Log } from "@mig/kit";
import { readTlsMaterial, type TlsConfig, type TlsMaterial, TlsProblem } from "../../config/tls-material.ts";

export interface CertificateWatch {
  stop(): void;
}

export interface CertificateWatchSettings {
  files: TlsConfig;
  /** What is served now. */
  material: TlsMaterial;
  serve(material: TlsMaterial): void;
  log: Log;
  pollMs: number;
}

const dayMs = 86_400_000;
const warnBeforeMs = 7 * dayMs;

/**
 * Brings a renewed certificate into service: when its files have changed, and at once on SIGHUP. The files are asked
 * for their state every few seconds, because a watch on them is lost when a Kubernetes secret turns a link around. What
 * cannot be served is told once, and the old certificate stays.
 */
export function watchCertificate({
  files,
  material,
  serve,
  log,
  pollMs,
}: CertificateWatchSettings): CertificateWatch {
  let current = material;
  /** Undefined: the files may have changed since `material` was read; the first look finds out. */
  let judged: string | undefined;
  let seen: string | undefined;
  let nextWarningMs = 0;
  let isLooking = false;

  const reload = (): void => {
    try {
      const next = readTlsMaterial(files, Date.now());
      const isSame = next.cert === current.cert && next.key === current.key && next.ca === current.ca;
      if (isSame) {
        log.debug({ subject: current.subject }, "the certificate is the same as before");
        return;
      }
      serve(next);
      current = next;
      nextWarningMs = 0;
      const expires = new Date(next.expiresMs).toISOString();
      log.info({ subject: next.subject, expires }, "new connections see the new certificate");
    } catch (error) {
      const told =
        error instanceof TlsProblem ? { setting: error.setting, problem: error.message } : { error };
      log.error(told, "the new certificate cannot be served; the old one stays");
    }
  };
  const warn = (nowMs: number): void => {
    if (current.expiresMs - nowMs > warnBeforeMs || nowMs < nextWarningMs) return;
    nextWarningMs = nowMs + dayMs;
    const fields = { subject: current.subject, expires: new Date(current.expiresMs).toISOString() };
    log.warn(fields, "the certificate expires soon or has expired; renew the files, no restart is needed");
  };
  const look = async (): Promise<void> => {
    if (isLooking) return;
    isLooking = true;
    const state = await stateOf(files);
    isLooking = false;
    // Certificate and key are written one after the other: only what two looks saw alike is read.
    if (state !== judged && state === seen) {
      judged = state;
      reload();
    }
    seen = state;
    warn(Date.now());
  };
  const onHangup = (): void => {
    log.info({ signal: "SIGHUP" }, "the certificate is read again");
    void stateOf(files).then((state) => {
      judged = state;
      reload();
    });
  };

  const timer = setInterval(() => void look(), pollMs);
  timer.unref();
  process.on("SIGHUP", onHangup);
  void look();
  return {
    stop() {
      clearInterval(timer);
      process.off("SIGHUP", onHangup);
    },
  };
}

async function stateOf({ certFile, keyFile, clientCaFile }: TlsConfig): Promise<string> {
  const paths = clientCaFile === undefined ? [certFile, keyFile] : [certFile, keyFile, clientCaFile];
  const states = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ mtimeMs, size, ino }) => `${mtimeMs}/${size}/${ino}`,
        () => "missing",
      ),
    ),
  );
  return states.join(" ");
}
