/**
 * Reading and writing XML.
 */
import t from 'tap';
import { escapeXml } from '../../../src/drivers/libvirt/xml.ts';
import { decodeEntities, readXml, textOf } from '../../../src/drivers/host/xml-read.ts';
import fc from '../../property.ts';

t.test('entities and references are decoded once, and what is neither stays', async (t) => {
  t.equal(decodeEntities('&lt;&gt;&amp;&quot;&apos;&#13;&#x1F422;'), `<>&"'\r🐢`);
  t.equal(decodeEntities('&amp;lt;'), '&lt;');
  t.equal(decodeEntities('&nbsp; &#x110000; & &;'), '&nbsp; &#x110000; & &;');
});

t.test('escaping and decoding are each other’s inverse', async (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => /[^\x20-\x7e]/.test(text) || decodeEntities(escapeXml(text)) === text),
  );
  t.pass('for any text');
});

t.test('a text with more entities than any parser’s limit is read', async (t) => {
  const text = '"'.repeat(20_000);
  t.equal(textOf(readXml(`<a>${escapeXml(text)}</a>`)), text);
});

t.test('what is not XML is refused', async (t) => {
  for (const text of ['', 'words', '<a>', '<a></b>']) {
    t.throws(() => readXml(text), { code: 'INTERNAL' }, text);
  }
});
