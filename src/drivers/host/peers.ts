/**
 * PeerReader: SO_PEERCRED of a unix socket, which Node has no call for.
 *
 * A small Perl program gets the connection as its descriptor 3, asks the kernel, and writes one line. Perl (perl-base)
 * is part of every Debian and Ubuntu; the program is fixed text, and nothing of the caller's reaches it but the
 * descriptor. It takes about 5 ms, so it is run for calls that change something, not for reads.
 *
 * The name comes by getpwuid(3), so users of a directory service have theirs.
 */
import { AgentError } from '../../model/errors.ts';
import type { PeerCredentials, Peers } from '../contracts/peers.ts';
import type { Exec } from './exec.ts';

/** The kernel answers at once; a directory service that hangs may keep a name from being found. Milliseconds. */
const TIMEOUT_MS = 2_000;
const OUTPUT_BYTES_LIMIT = 1024;

/** SOL_SOCKET is 1, SO_PEERCRED is 17; struct ucred is pid, uid, gid. @see unix(7), asm-generic/socket.h */
const PROGRAM = `
open(my $socket, "+<&=", 3) or die "descriptor 3: $!\\n";
my $ucred = getsockopt($socket, 1, 17) or die "SO_PEERCRED: $!\\n";
my ($pid, $uid) = unpack("iI", $ucred);
my $user = getpwuid($uid);
print "$pid $uid ", defined $user ? $user : "", "\\n";
`;

const ANSWER = /^(\d+) (\d+) (\S{0,256})\n$/;

export class PeerReader implements Peers {
  readonly #exec: Exec;

  constructor(exec: Exec) {
    this.#exec = exec;
  }

  async credentialsOf(descriptor: number): Promise<PeerCredentials> {
    const options = { files: [descriptor], timeoutMs: TIMEOUT_MS, outputLimitBytes: OUTPUT_BYTES_LIMIT };
    const { stdout } = await this.#exec.run('perl', ['-e', PROGRAM], options).catch((cause: unknown) => {
      throw new AgentError('UNAVAILABLE', 'Cannot tell who is at the other end of a local connection', {
        cause,
      });
    });
    const [, pid, uid, user] = ANSWER.exec(stdout) ?? [];
    if (pid !== undefined) return { pid: Number(pid), uid: Number(uid), user: user || null };
    throw new AgentError('UNAVAILABLE', `perl answered ${JSON.stringify(stdout)} for a local connection`);
  }
}
