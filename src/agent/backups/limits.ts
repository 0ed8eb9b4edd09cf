/** The largest disks, over a slow line, ms. */
export const BACKUP_TIMEOUT_MS = 24 * 3600_000;
