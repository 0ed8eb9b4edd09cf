/** By which key of the node the bytes of a volume are encrypted; null where they are not. */
export const encryption = `
ALTER TABLE volumes ADD COLUMN encryption_key TEXT;
`;
