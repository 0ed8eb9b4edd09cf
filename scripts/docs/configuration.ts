/** docs/configuration.md and the commented systemd/berthd.toml, from the schema of the configuration. */
import { ConfigSchema } from '../../src/agent/config/schema.ts';
import { type SchemaNode, table, typeWords } from './schema.ts';

const sections = Object.entries((ConfigSchema as unknown as SchemaNode).properties ?? {});

export function configurationPage(): string {
  return [
    '<!-- Generated from src/agent/config/schema.ts by `npm run docs`; do not edit. -->',
    '# Configuration of berthd',
    'TOML, by default `/etc/berth/berthd.toml`. Unknown keys are refused with file, line and a suggestion; check a file with\n`berthd --check-config --config FILE`. Every key may be left out.',
    ...sections.flatMap(([name, section]) => [`## [${name}]`, section.description ?? '', keyTable(section)]),
    '',
  ].join('\n\n');
}

function keyTable(section: SchemaNode): string {
  const rows = Object.entries(section.properties ?? {}).map(([key, node]) => [
    `\`${key}\``,
    typeWords(node),
    node.default === undefined ? 'none' : `\`${JSON.stringify(node.default)}\``,
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
  const keys = Object.entries(section.properties ?? {}).map(([key, node]) => {
    const value = node.default === undefined ? '""' : JSON.stringify(node.default);
    return `\n# ${node.description ?? ''} (${typeWords(node)})\n#${key} = ${value}\n`;
  });
  return `\n# ${section.description ?? ''}\n[${name}]\n${keys.join('')}`;
}
