/**
 * Sizes and times for people. Exact values are in --json.
 */

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** Twice the unit is where the smaller unit stops saying more, as kubectl does. */
const COARSE = 2;

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const MIB = 1024 * 1024;

/** As in `0 B`, `1.5 KiB`, `60 MiB`, `2 TiB`: one decimal below ten, none beyond or where it is zero. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return '-';
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = Math.abs(value) < 10 ? value.toFixed(1).replace(/\.0$/, '') : value.toFixed(0);
  return `${digits} ${BYTE_UNITS[unit]}`;
}

export function formatMib(mib: number): string {
  return formatBytes(mib * MIB);
}

export function formatGib(gib: number): string {
  return formatBytes(gib * 1024 * MIB);
}

/** As in `5s`, `90s`, `12m`, `30h`, `9d`; a time that is none is `-`. */
export function formatAge(timestamp: string, nowMs: number): string {
  const ageMs = nowMs - Date.parse(timestamp);
  if (!Number.isFinite(ageMs)) return '-';
  if (ageMs < COARSE * MINUTE_MS) return `${Math.max(0, Math.floor(ageMs / SECOND_MS))}s`;
  if (ageMs < COARSE * HOUR_MS) return `${Math.floor(ageMs / MINUTE_MS)}m`;
  if (ageMs < COARSE * DAY_MS) return `${Math.floor(ageMs / HOUR_MS)}h`;
  return `${Math.floor(ageMs / DAY_MS)}d`;
}

/** As in `in 12s`; `now` for a time that has come. */
export function formatUntil(timestamp: string, nowMs: number): string {
  const atMs = Date.parse(timestamp);
  if (!Number.isFinite(atMs)) return '-';
  return atMs <= nowMs ? 'now' : `in ${formatAge(new Date(nowMs).toISOString(), atMs)}`;
}

/** As in `0.4 s`, `12.0 s`. */
export function formatSeconds(ms: number): string {
  return `${(ms / SECOND_MS).toFixed(1)} s`;
}

/** As in `3 running, 1 stopped`; `none` where all are zero. */
export function formatCounts(counts: Readonly<Record<string, number>>): string {
  const present = Object.entries(counts).filter(([, count]) => count > 0);
  return present.length === 0 ? 'none' : present.map(([word, count]) => `${count} ${word}`).join(', ');
}
