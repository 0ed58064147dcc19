/** doctor and the bugs of kernels: only where the kernel has one and the machine what it takes. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseRelease } from '../../../lib/backend/kernel-release.js';
import { diagnose, type Finding } from '../../../lib/index.js';
import { KERNEL_BUGS } from '../../../lib/kernel/releases/bugs.js';
import { distributionOf } from '../../../lib/kernel/releases/distributions.js';
import { holds } from '../../../lib/kernel/releases/rule.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

async function bugs(t: Test, release: string, change: Partial<TreeDescription> = {}, sglThreshold?: number) {
  const root = writeSysfsTree(t.testdir({}), { ...twoDrivesBelowASwitch(), release, ...change });
  if (sglThreshold !== undefined) {
    const dir = join(root, 'sys/module/nvme/parameters');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'sgl_threshold'), `${sglThreshold}\n`);
  }
  const { findings, verdict } = await diagnose({ root });
  return { bugs: findings.filter(({ fact }: Finding) => /a bug of Linux/.test(fact)), verdict, findings };
}

t.test('which kernels have which bug', async (t) => {
  const has = (id: string, release: string) =>
    holds(KERNEL_BUGS.find((bug) => bug.id === id)!.rule, parseRelease(release));
  for (const [id, releases] of [
    [
      'free-sgls',
      {
        '6.17.9': 'no',
        '6.18.0': 'yes',
        '6.18.37': 'yes',
        '6.19.0-rc7': 'yes',
        '6.19.0-rc8': 'no',
        '6.19.0': 'no',
        '7.1.2': 'no',
      },
    ],
    [
      'dma-vec-leak',
      {
        '6.16.4': 'no',
        '6.17.0-35-generic': 'yes',
        '6.18.39': 'yes',
        '7.0.10': 'yes',
        '7.0.11': 'no',
        '7.1.0-rc3': 'yes',
        '7.1.0': 'no',
      },
    ],
    ['mirror', { '7.1.3': 'no', '7.2.0': 'yes', '7.4.1': 'yes' }],
    [
      'mmap-leak',
      {
        '6.12.74': 'yes',
        '6.12.117': 'no',
        '6.18.13': 'yes',
        '6.18.14': 'no',
        '6.19.4': 'no',
        '6.8.0-52-generic': 'yes',
        '7.0.0': 'no',
      },
    ],
    ['acs-list', { '6.2.0': 'yes', '7.3.0': 'yes', '7.4': 'no' }],
  ] as const) {
    for (const [release, answer] of Object.entries(releases))
      t.equal(has(id, release), answer, `${id} ${release}`);
  }
});

t.test('silent corruption: a warning with the way out, unless SGLs are off', async (t) => {
  const { bugs: found, verdict } = await bugs(t, '6.18.20');
  t.match(found, [
    {
      level: 'warning',
      fact: /a bug of Linux 6\.18\.20: reads and writes of NVMe drives can transfer wrong data without an error, if a drive uses SGLs/,
      remedy: /6\.19 or newer.*nvme\.sgl_threshold=0/,
      commands: [/sgl_threshold$/],
    },
    {
      level: 'warning',
      fact: /can strike here \(an IOMMU translates, and pairs go by the bus\).*leaks kernel memory/,
    },
  ]);
  t.equal(verdict, 'limited', 'exit code 1');
  const off = await bugs(t, '6.18.20', { iommu: { units: [], groupType: 'identity' } }, 0);
  t.same(off.bugs, [], 'SGLs are off, and nothing translates');
});

t.test('a note is no warning', async (t) => {
  const { bugs: found, verdict } = await bugs(t, '6.8.12');
  t.match(found, [
    { level: 'ok', fact: /removing that drive, or its driver, hangs, if/, remedy: /6\.12\.75/ },
  ]);
  t.equal(found.length, 1);
  t.equal(verdict, (await bugs(t, '6.12.117')).verdict);
  t.same((await bugs(t, '6.12.117')).bugs, []);
});

t.test('a mirror on the drives from 7.2 on', async (t) => {
  const tree = twoDrivesBelowASwitch();
  const found = (
    await bugs(t, '7.2.0', {
      blocks: [...tree.blocks!, { name: 'md9', bytes: 2 ** 30, slaves: ['nvme0n1'], level: 'raid1' }],
    })
  ).bugs;
  t.match(found, [
    {
      level: 'warning',
      fact: /mirrors on NVMe drives: .*md9.*reported as successful, but the members/s,
    },
  ]);
  t.same((await bugs(t, '7.1.3')).bugs, []);
  const emulated = await diagnose({ machine: 'mirror' });
  t.match(
    emulated.findings.find(({ fact }) => fact.includes('a bug of Linux 7.2')),
    { level: 'warning', fact: /mirrors on NVMe drives: md0/ },
  );
});

t.test('what distributions have', async (t) => {
  const rhel = await bugs(t, '5.14.0-503.el9.x86_64');
  t.match(
    rhel.findings.find(({ check }) => check === 'kernel'),
    {
      level: 'problem',
      fact: /gives programs no peer-to-peer memory/,
      remedy: /has CONFIG_PCI_P2PDMA for drivers, but no peer memory for programs/,
    },
  );
  const ga = await bugs(t, '5.15.0-25-generic');
  t.match(ga.findings.find(({ check }) => check === 'kernel')?.remedy, /HWE kernel of 22\.04 \(6\.8\)/);
  const bare = twoDrivesBelowASwitch();
  for (const fn of bare.functions) delete fn.p2pmem;
  delete bare.config;
  const config = async (release: string) =>
    (await bugs(t, release, { functions: bare.functions, config: undefined as never })).findings.find(
      ({ check }) => check === 'config',
    )?.fact;
  t.match(await config('6.8.0-52-generic'), /not known.*kernels of Ubuntu .*have it$/);
  t.match(await config('6.12.117+deb12-amd64'), /kernels of Debian .*do not have it$/);
  t.match(await config('6.12.0-55.el10.x86_64'), /as far as is known, have it$/);
  t.equal(distributionOf(parseRelease('6.12.1')), null);
});
