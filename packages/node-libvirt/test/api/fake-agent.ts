/**
 * The guest agent at the far side of the channel org.qemu.guest_agent.0: it answers libvirt as a test wants.
 *
 * QEMU and libvirt both connect to its socket: QEMU since the channel's mode is 'connect', libvirt as always. QEMU has
 * nothing to say, and libvirt is answered here. It connects when the guest opens the port (OPENS_PORT_1).
 *
 * @see docs/interop/qemu-ga-ref (QEMU): the commands and their replies
 */
import net from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Domain } from '../../src/domain.ts';
import { LibvirtError } from '../../src/errors.ts';
import type { TestScope } from '../support/private-host.ts';

export interface AgentCommand {
  execute: string;
  arguments?: Record<string, unknown>;
}

export class FakeAgent {
  /** What it was told, but for the synchronisation before each command. */
  readonly commands: AgentCommand[] = [];
  /** Answers nothing any more, but for the synchronisation. */
  isSilent = false;
  readonly #replies: Readonly<Record<string, string>>;
  readonly #path: string;
  readonly #server: net.Server;

  /**
   * Listens until the test ends.
   *
   * @param replies JSON text of what each command returns. Other commands are unknown to the agent.
   */
  static async listen(
    t: TestScope,
    dir: string,
    replies: Readonly<Record<string, string>>,
  ): Promise<FakeAgent> {
    const agent = new FakeAgent(join(dir, 'agent'), replies);
    const { promise, resolve } = Promise.withResolvers<void>();
    agent.#server.listen(agent.#path, resolve);
    t.teardown(() => agent.#server.close());
    await promise;
    return agent;
  }

  private constructor(path: string, replies: Readonly<Record<string, string>>) {
    this.#path = path;
    this.#replies = replies;
    this.#server = net.createServer((socket) => {
      createInterface(socket).on('line', (line) => {
        // Before the first synchronisation libvirt sends a byte that makes no sense, to be ignored.
        const command = JSON.parse(line.replaceAll(/[^\x20-\x7e]/g, '')) as AgentCommand;
        const reply = this.#reply(command);
        if (reply !== null) socket.write(`${reply.replaceAll('\n', ' ')}\n`);
      });
    });
  }

  /** The device of its domain. */
  get channel(): string {
    return `<channel type='unix'><source mode='connect' path='${this.#path}'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/></channel>`;
  }

  /**
   * Whether libvirt hears the agent of a domain, which must have an answer to guest-ping. The domain's XML says
   * "connected" a little earlier, while libvirt still opens the socket, and commands fail until it has.
   */
  async isHeardFrom(domain: Domain): Promise<boolean> {
    try {
      await domain.qemuAgentCommand('{"execute":"guest-ping"}');
      return true;
    } catch (error) {
      if (error instanceof LibvirtError && error.codeName === 'VIR_ERR_AGENT_UNRESPONSIVE') return false;
      throw error;
    }
  }

  /** Arguments of a command when it was last told. */
  lastArguments(execute: string): AgentCommand['arguments'] {
    return this.commands.findLast((command) => command.execute === execute)?.arguments;
  }

  #reply(command: AgentCommand): string | null {
    if (command.execute === 'guest-sync') return `{"return": ${command.arguments?.['id']}}`;
    this.commands.push(command);
    if (this.isSilent) return null;
    const returned = this.#replies[command.execute];
    return returned === undefined
      ? '{"error": {"class": "CommandNotFound", "desc": "not known"}}'
      : `{"return": ${returned}}`;
  }
}
