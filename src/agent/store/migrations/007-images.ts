/**
 * What an image came as and how it is kept, its checks, and what the cache needs to know to age it.
 *
 * Images of before are kept as they came, and have been used and checked when they were made, as far as is known.
 */
export const images = `
ALTER TABLE images ADD COLUMN source_format TEXT NOT NULL DEFAULT 'qcow2';
ALTER TABLE images ADD COLUMN file_sha256 TEXT;
ALTER TABLE images ADD COLUMN damage TEXT;
ALTER TABLE images ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN hardware TEXT;
ALTER TABLE images ADD COLUMN last_used_at TEXT;
ALTER TABLE images ADD COLUMN verified_at TEXT;
UPDATE images SET source_format = format, file_sha256 = sha256, last_used_at = created_at, verified_at = created_at;
CREATE INDEX images_by_digest ON images (file_sha256);
`;
