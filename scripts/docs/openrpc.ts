/** docs/openrpc.json: the method table as an OpenRPC 1.3 document. */
import { ERROR_CODES } from '../../src/model/errors.ts';
import { METHODS, type Method } from '../../src/model/methods.ts';
import type { SchemaNode } from './schema.ts';

export function openRpc(): object {
  return {
    openrpc: '1.3.2',
    info: {
      title: 'Berth agent',
      version: '1.0.0',
      description: 'Methods of the subprotocol berth.v1; see protocol.md.',
    },
    methods: Object.entries(METHODS).map(([name, method]) => methodObject(name, method)),
    components: {
      errors: Object.fromEntries(
        Object.entries(ERROR_CODES).map(([code, message], index) => [
          code,
          { code: -32000 - index, message },
        ]),
      ),
    },
  };
}

function methodObject(name: string, method: Method): object {
  const { properties = {}, required = [] } = method.params as SchemaNode;
  return {
    name,
    summary: method.summary,
    'x-kind': method.kind,
    'x-role': method.role,
    paramStructure: 'by-name',
    params: Object.entries(properties).map(([param, schema]) => ({
      name: param,
      required: required.includes(param),
      schema,
    })),
    result: { name: 'result', schema: method.result },
  };
}
