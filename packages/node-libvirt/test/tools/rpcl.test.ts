import t from 'tap';
import { emptyProtocol, parseRpcl } from '../../tools/rpcl.ts';

const TEXT = `
/* -*- c -*- */
%#include "internal.h"
const LIST_MAX = 16;
typedef string nonnull_string<LIST_MAX>;
typedef nonnull_string *a_string;
enum auth_type { AUTH_NONE = 0, AUTH_SASL };
struct open_args {
    a_string name; /* insert@1 */
    unsigned hyper size;
    opaque uuid[VIR_UUID_BUFLEN];
    nonnull_string keys<>;
};
union value switch (int type) {
 case 1:
     int i;
};
enum remote_procedure {
    /**
     * @generate: both
     * @readstream: 1
     */
    REMOTE_PROC_OPEN = 1,
    REMOTE_PROC_NEXT = 2
};
`;

t.test('all forms that libvirt uses are understood', (t) => {
  const protocol = emptyProtocol();
  parseRpcl(TEXT, protocol);
  t.equal(protocol.constants.get('LIST_MAX'), 16);
  t.equal(protocol.constants.get('AUTH_SASL'), 1);
  t.same(protocol.typedefs.get('a_string'), {
    name: 'a_string',
    type: 'nonnull_string',
    shape: 'optional',
    size: 0,
  });
  t.same(protocol.structs.get('open_args'), [
    { name: 'name', type: 'a_string', shape: 'plain', size: 0 },
    { name: 'size', type: 'unsigned hyper', shape: 'plain', size: 0 },
    { name: 'uuid', type: 'opaque', shape: 'fixed', size: 16 },
    { name: 'keys', type: 'nonnull_string', shape: 'counted', size: 0xffff_ffff },
  ]);
  t.same(protocol.procedures.get('remote'), [
    { symbol: 'REMOTE_PROC_OPEN', number: 1, stream: 'read', priority: 'low' },
    { symbol: 'REMOTE_PROC_NEXT', number: 2, stream: null, priority: 'low' },
  ]);
  t.same([...protocol.unions], ['value']);
  t.end();
});

t.test('what is not understood is refused with its text', (t) => {
  t.throws(() => parseRpcl('struct a { int b c; };', emptyProtocol()), /cannot parse field: int b c/);
  t.throws(() => parseRpcl('program X { };', emptyProtocol()), /cannot parse: program X/);
  t.throws(() => parseRpcl('const A = B;', emptyProtocol()), /unknown constant B/);
  t.end();
});
