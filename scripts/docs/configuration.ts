/** docs/configuration.md and the commented systemd/berthd.toml, from the schema of the configuration. */
import { ConfigSchema } from '../../src/agent/config/schema.ts';
import { type SchemaNode, table, typeWords } from './schema.ts';

/** A section that may be given several times is an array of what it holds. */
const isRepeated = (section: SchemaNode) => section.type === 'array';
const keysOf = (section: SchemaNode) => Object.entries((section.items ?? section).properties ?? {});

const sections = Object.entries((ConfigSchema as unknown as SchemaNode).properties ?? {});

export function configurationPage(): string {
  return [
    '<!-- Generated from src/agent/config/schema.ts by `npm run docs`; do not edit. -->',
    '# Configuration of berthd',
    'TOML, by default `/etc/berth/berthd.toml`. Unknown keys are refused with file, line and a suggestion; check a file with\n`berthd --check-config --config FILE`. Every key that has a default may be left out.',
    ...sections.flatMap(([name, section]) => [
      isRepeated(section) ? `## [[${name}]]` : `## [${name}]`,
      section.description ?? '',
      keyTable(section),
    ]),
    '',
  ].join('\n\n');
}

function keyTable(section: SchemaNode): string {
  const needed = section.items?.required ?? [];
  const rows = keysOf(section).map(([key, node]) => [
    `\`${key}\``,
    typeWords(node),
    node.default === undefined
      ? needed.includes(key)
        ? 'needed'
        : 'none'
      : `\`${JSON.stringify(node.default)}\``,
    node.description ?? '',
  ]);
  return table(['key', 'type', 'default', ''], rows);
}

/** Every key at its default, commented out. */
export function commentedConfig(): string {
  const head =
    '# Configuration of berthd. Every key is shown with its default; what is left out or commented out has it.\n# Check a change before a restart: berthd --check-config\n';
  return head + sections.map(([name, section]) => sectionText(name, section)).join('');
}

function sectionText(name: string, section: SchemaNode): string {
  const keys = keysOf(section).map(([key, node]) => {
    const value = node.default === undefined ? '""' : JSON.stringify(node.default);
    return `\n# ${node.description ?? ''} (${typeWords(node)})\n#${key} = ${value}\n`;
  });
  const head = isRepeated(section) ? `#[[${name}]]` : `[${name}]`;
  return `\n# ${section.description ?? ''}\n${head}\n${keys.join('')}`;
}
