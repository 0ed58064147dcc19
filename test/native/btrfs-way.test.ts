import t from 'tap';
import { parseRelease } from '../../lib/backend/kernel-release.js';
import { btrfsWay } from '../../lib/native/btrfs-way.js';
import { parseMountinfo } from '../../lib/native/sysfs/mountinfo.js';
import { inLayer, overlayLayers } from '../../lib/native/sysfs/overlay.js';

const LAST = 0x1;
const ENCODED = 0x8;
const INLINE = 0x200;
const DELALLOC = 0x4;
const COMPRESS = 0x4;
const NOCOW = 0x800000;

t.test('what a file on btrfs says of its way', async (t) => {
  const asked = (
    extents: number,
    file: { write?: boolean; flags?: number; options?: string[]; release?: string | null },
  ) => {
    const addon = { extentFlags: () => extents, fileFlags: () => file.flags ?? 0 };
    const { noP2p, unproven } = btrfsWay(addon, 3, {
      path: '/f',
      write: file.write ?? false,
      mountOptions: file.options ?? [],
      version: parseRelease(file.release === undefined ? '6.12.117' : file.release)?.version ?? null,
    });
    return noP2p !== null ? 'not direct' : unproven !== null ? 'not known' : 'direct';
  };
  t.equal(asked(LAST, {}), 'direct');
  t.equal(asked(0, {}), 'direct', 'an empty file');
  t.equal(asked(LAST | ENCODED, {}), 'not direct', 'one compressed extent is enough');
  t.equal(asked(LAST | INLINE, {}), 'not direct');
  t.equal(asked(LAST | DELALLOC, {}), 'not known');
  t.equal(asked(-95, {}), 'not known', 'no FIEMAP');
  t.equal(
    asked(LAST, { options: ['compress=zstd:3'] }),
    'direct',
    'what was not compressed is read directly',
  );

  t.equal(asked(LAST, { write: true }), 'not known', 'checksums');
  t.equal(asked(LAST, { write: true, release: null }), 'not known');
  t.equal(asked(LAST, { write: true, release: '6.15.0-rc1' }), 'not direct');
  t.equal(asked(LAST, { write: true, release: '6.18', flags: NOCOW }), 'direct');
  t.equal(asked(LAST, { write: true, options: ['rw', 'nodatasum'] }), 'direct');
  t.equal(asked(LAST | ENCODED, { write: true, flags: NOCOW }), 'not direct');
  t.equal(asked(LAST, { write: true, flags: COMPRESS }), 'not known');
  t.equal(asked(LAST, { write: true, options: ['compress-force=lzo'] }), 'not known');
});

t.test('the layers of overlayfs, out of its mount options', async (t) => {
  const mountOf = (options: string) =>
    parseMountinfo(`36 35 0:42 / /merged rw,relatime - overlay overlay ${options}`)[0]!;
  t.same(overlayLayers(mountOf('rw,lowerdir=/a:/b\\:c,upperdir=/u,workdir=/w')), {
    upper: '/u',
    lower: ['/a', '/b:c'],
    split: false,
  });
  t.same(overlayLayers(mountOf('ro,lowerdir+=/a,lowerdir+=/b,datadir+=/d,metacopy=on')), {
    upper: null,
    lower: ['/a', '/b', '/d'],
    split: true,
  });
  t.equal(inLayer('/u', mountOf('rw'), '/merged/x/y'), '/u/x/y');
});
