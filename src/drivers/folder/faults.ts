/** What the file system below a store answers, as errors of the contract. */
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { ObjectFault } from '../contracts/objects.ts';

interface Meaning {
  code: ErrorCode;
  fault: ObjectFault;
  hint?: string;
}

const FULL: Meaning = { code: 'CAPACITY_EXCEEDED', fault: 'refused', hint: 'Free some room on its disk.' };
const DENIED: Meaning = {
  code: 'PERMISSION_DENIED',
  fault: 'refused',
  hint: 'Let root write there: see the mount options, and root_squash of an NFS export.',
};
const OTHER_KIND: Meaning = {
  code: 'HOST_CONFLICT',
  fault: 'refused',
  hint: 'Something else lies where an object belongs, such as a symbolic link: take it away.',
};
const GONE: Meaning = {
  code: 'UNAVAILABLE',
  fault: 'unreachable',
  hint: 'See whether it is mounted, and whether its server answers.',
};

/** @see errno(3) */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: FULL,
  EACCES: DENIED,
  EPERM: DENIED,
  EROFS: DENIED,
  ELOOP: OTHER_KIND,
  ENOTDIR: OTHER_KIND,
  EISDIR: OTHER_KIND,
  ENXIO: OTHER_KIND,
  ENAMETOOLONG: { code: 'INVALID_ARGUMENT', fault: 'refused' },
};

/** Runs `act`; what the system refuses becomes an error that says what could not be done. */
export async function doing<T>(store: string, what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw error instanceof AgentError ? error : errorOf(store, what, error);
  }
}

function errorOf(store: string, what: string, error: unknown): unknown {
  const name = errno(error);
  if (name === null) return error;
  const { code, fault, hint } = MEANINGS[name] ?? GONE;
  return new AgentError(code, `Cannot ${what} of object store ${store}`, {
    cause: error,
    details: { store, fault, errno: name },
    ...(hint !== undefined && { hint }),
  });
}

/** What is wrong with the bytes, or with an object that is not there. */
export function refusal(
  store: string,
  what: string,
  { code, fault, why }: { code: ErrorCode; fault: ObjectFault; why: string },
): AgentError {
  return new AgentError(code, `Cannot ${what} of object store ${store}`, {
    cause: new Error(why),
    details: { store, fault },
  });
}

/** Such as ENOENT; null for what is no answer of the system. */
export function errno(error: unknown): string | null {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return typeof code === 'string' && typeof syscall === 'string' ? code : null;
}
