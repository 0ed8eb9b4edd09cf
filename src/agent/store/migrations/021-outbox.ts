/**
 * The outbox of events: `subject` is what an event is about where a later one of the same subject says all that it says;
 * such events may be taken together while the scheduler is away.
 */
export const outbox = `
ALTER TABLE events ADD COLUMN subject TEXT;
CREATE INDEX events_by_subject ON events (subject, seq) WHERE subject IS NOT NULL;
`;
