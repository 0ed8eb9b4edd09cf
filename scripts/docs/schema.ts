/** Reads a TypeBox schema for people: one line of type, and rows of properties. */

export interface SchemaNode {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  items?: SchemaNode;
  anyOf?: SchemaNode[];
  properties?: Record<string, SchemaNode>;
  patternProperties?: Record<string, SchemaNode>;
  required?: string[];
}

/** Such as `string`, `integer 1 to 60`, `"bios" or "uefi"`, `list of strings`. */
export function typeWords(node: SchemaNode): string {
  if (node.const !== undefined) return JSON.stringify(node.const);
  if (node.enum !== undefined) return node.enum.map((value) => JSON.stringify(value)).join(' or ');
  if (node.anyOf !== undefined) return node.anyOf.map(typeWords).join(' or ');
  if (node.type === 'array') return `list of ${typeWords(node.items ?? {})}`;
  if (node.type === 'integer' || node.type === 'number') return `${node.type}${range(node)}`;
  if (node.type === 'object') return 'object';
  return node.type ?? 'anything';
}

function range({ minimum, maximum }: SchemaNode): string {
  if (minimum !== undefined && maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER)
    return ` ${minimum} to ${maximum}`;
  return minimum === undefined ? '' : `, at least ${minimum}`;
}

export interface PropertyRow {
  name: string;
  type: string;
  need: string;
  description: string;
}

/** Rows of an object's properties, those of inner objects below their own with a dotted name. */
export function propertyRows(node: SchemaNode, prefix = ''): PropertyRow[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const name = `${prefix}${key}`;
    const row = {
      name,
      type: typeWords(child),
      need: needOf(node, key, child),
      description: child.description ?? child.items?.description ?? '',
    };
    const inner =
      child.type === 'array'
        ? propertyRows(child.items ?? {}, `${name}[].`)
        : propertyRows(child, `${name}.`);
    return [row, ...inner];
  });
}

function needOf(parent: SchemaNode, key: string, child: SchemaNode): string {
  if (child.default !== undefined) return `default \`${JSON.stringify(child.default)}\``;
  return parent.required?.includes(key) ? 'needed' : 'optional';
}

/** A Markdown table; cells are escaped. */
export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
