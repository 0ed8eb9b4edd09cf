/** Tokens are counted, and those of before removed, without a look at the certificates that they hold. */
export const tokenTimes = `
CREATE INDEX enrolment_tokens_by_end ON enrolment_tokens (expires_at);
`;
