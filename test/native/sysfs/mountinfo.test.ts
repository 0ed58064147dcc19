import t from 'tap';
import { findMount, parseMountinfo } from '../../../lib/native/sysfs/mountinfo.js';
import { fc } from '../../helpers/random.js';

t.test('a line of mountinfo, with and without tags', async (t) => {
  const [tagged, plain] = parseMountinfo(
    [
      '36 35 259:1 /sub /mnt/a\\040b rw,noatime shared:1 master:2 - ext4 /dev/nvme0n1p1 rw,data=ordered',
      '37 35 0:42 / /tmp rw - tmpfs tmpfs rw',
    ].join('\n'),
  );
  t.same(tagged, {
    device: '259:1',
    root: '/sub',
    mountPoint: '/mnt/a b',
    options: ['rw', 'noatime'],
    type: 'ext4',
    source: '/dev/nvme0n1p1',
    superOptions: ['rw', 'data=ordered'],
  });
  t.match(plain, { device: '0:42', type: 'tmpfs', superOptions: ['rw'] });
});

t.test('lines that are none are left out', async (t) => {
  t.same(
    parseMountinfo('\n-\n1 2 3 4 5 6 - ext4 x y\n1 2 8:1 / relative rw - ext4 x y\n36 35 8:1 / /m rw\n'),
    [],
  );
});

t.test('the deepest mount point wins, of equal ones the last', async (t) => {
  const line = (mountPoint: string, type: string) => `1 1 8:1 / ${mountPoint} rw - ${type} x rw`;
  const mounts = parseMountinfo(
    [line('/', 'a'), line('/mnt', 'b'), line('/mnt/x', 'c'), line('/mnt', 'd')].join('\n'),
  );
  const at = (path: string) => findMount(mounts, path)?.type;
  t.same(
    [at('/'), at('/mn'), at('/mnt'), at('/mnt/y'), at('/mnt/x/y'), at('/mnt/xy')],
    ['a', 'a', 'd', 'd', 'c', 'd'],
  );
  t.equal(findMount([], '/'), null);
});

t.test('any text: mounts or nothing, never an exception', async () => {
  const word = fc.constantFrom('-', '1', '8:1', '/', '/m', 'rw', 'ext4', '\\040', '', '\\777');
  fc.assert(fc.property(fc.array(word), (words) => parseMountinfo(words.join(' ')).length <= 1));
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseMountinfo(text))));
});
