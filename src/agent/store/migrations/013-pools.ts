/** What is taken of the room of each pool, and which pools have, or may have, a copy of an image. */
export const pools = `
CREATE TABLE allocations_by_pool (
  consumer_id TEXT NOT NULL,
  resource_class TEXT NOT NULL,
  pool TEXT NOT NULL DEFAULT '',
  amount INTEGER NOT NULL,
  seal INTEGER,
  PRIMARY KEY (consumer_id, resource_class, pool)
) STRICT, WITHOUT ROWID;
INSERT INTO allocations_by_pool (consumer_id, resource_class, pool, amount)
  SELECT consumer_id, resource_class, iif(resource_class = 'DISK_GB', 'default', ''), amount FROM allocations;
DROP TABLE allocations;
ALTER TABLE allocations_by_pool RENAME TO allocations;

CREATE TABLE image_copies (
  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
  pool TEXT NOT NULL,
  seal INTEGER,
  PRIMARY KEY (image_id, pool)
) STRICT, WITHOUT ROWID;
`;
