import { mkdirSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { readSysfs } from '../../../lib/native/sysfs/machine.js';
import { type TreeDescription, twoDrivesBelowASwitch, writeSysfsTree } from '../../fixtures/sysfs-tree.js';

function write(test: Test, change: Partial<TreeDescription> = {}, provider = true): string {
  const tree = { ...twoDrivesBelowASwitch(), ...change };
  if (!provider) for (const fn of tree.functions) delete fn.p2pmem;
  return writeSysfsTree(test.testdir({}), tree);
}

t.test('the release, from uname’s file or from version', async (t) => {
  const root = write(t);
  t.match(readSysfs(root).kernel, { release: '6.12.117', version: [6, 12] });
  const other = t.testdir({ proc: { version: 'Linux version 5.10.0-8-amd64 (gcc) #1 SMP' } });
  t.match(readSysfs(other).kernel, { release: '5.10.0-8-amd64', version: [5, 10] });
});

t.test('CONFIG_PCI_P2PDMA: from memory that is there, from configurations, or not known', async (t) => {
  t.match(readSysfs(write(t)).kernel.p2pdma, { enabled: true, from: /p2pmem/ });
  for (const p2pdma of [true, false]) {
    t.match(readSysfs(write(t, { config: { p2pdma, at: 'proc' } }, false)).kernel.p2pdma, {
      enabled: p2pdma,
      from: '/proc/config.gz',
    });
    t.match(readSysfs(write(t, { config: { p2pdma, at: 'boot' } }, false)).kernel.p2pdma, {
      enabled: p2pdma,
      from: '/boot/config-6.12.117',
    });
  }
  const root = write(t, {}, false);
  writeFileSync(`${root}/boot/config-6.12.117`, 'CONFIG_PCI_P2PDMA=y\n');
  writeFileSync(`${root}/proc/config.gz`, gzipSync(Buffer.alloc(64 * 2 ** 20)));
  const unknown = ({ file }: { file: string }) => file === '/proc/config.gz';
  t.ok(readSysfs(root).topology.unknowns.some(unknown), 'also if nobody asked for the configuration');
  const bomb = readSysfs(root);
  t.match(bomb.kernel.p2pdma, { enabled: true, from: '/boot/config-6.12.117' }, 'a bomb is not unpacked');
  t.ok(bomb.topology.unknowns.some(unknown));
});

t.test('a release cannot name a file elsewhere', async (t) => {
  const root = write(t, { release: '../../etc/x' }, false);
  t.equal(readSysfs(root).kernel.p2pdma.enabled, null);
});

t.test('IOMMU: the types of the groups that drives and providers are in', async (t) => {
  const mode = (units: string[], groupType: string) =>
    readSysfs(write(t, { iommu: { units, groupType } })).topology.iommu;
  t.equal(mode(['dmar0', 'dmar1'], 'DMA-FQ'), 'translating');
  t.equal(mode(['ivhd0'], 'DMA'), 'translating');
  t.equal(mode(['smmu3.0x0000000009050000'], 'DMA'), 'translating');
  t.equal(mode(['dmar0'], 'identity'), 'none');
  t.equal(mode(['iommu-phb0000'], 'DMA'), 'unsupported');
  t.equal(mode(['s390-iommu.0'], 'DMA'), 'translating', 'since Linux 6.7');
  const without = twoDrivesBelowASwitch();
  delete without.iommu;
  t.equal(readSysfs(writeSysfsTree(t.testdir({}), without)).topology.iommu, 'none');

  const root = write(t);
  mkdirSync(`${root}/sys/kernel/iommu_groups/99`, { recursive: true });
  for (const group of [12, 13, 14])
    writeFileSync(`${root}/sys/kernel/iommu_groups/${group}/type`, 'identity\n');
  writeFileSync(`${root}/sys/kernel/iommu_groups/99/type`, 'DMA\n');
  t.equal(readSysfs(root).topology.iommu, 'none', 'some other device’s group does not count');
  t.match(readSysfs(root).iommu, { units: ['dmar0'], why: /identity/ });
  t.equal(readSysfs(root).iommu.groupTypes.get(99), 'DMA');
});

for (const [module, parameter, fact] of [
  ['nvme', 'use_cmb_sqes', 'useCmbSqes'],
  ['nvme_core', 'multipath', 'nvmeMultipath'],
] as const) {
  t.test(`parameter ${parameter} of ${module}`, async (t) => {
    const root = write(t);
    t.equal(readSysfs(root).kernel[fact], null);
    const folder = `${root}/sys/module/${module}/parameters`;
    mkdirSync(folder, { recursive: true });
    for (const [text, want] of [
      ['Y\n', true],
      ['N\n', false],
    ] as const) {
      writeFileSync(`${folder}/${parameter}`, text);
      t.equal(readSysfs(root).kernel[fact], want);
    }
  });
}

t.test('the boot line', async (t) => {
  const root = write(t);
  for (const line of [
    'ro "pci=disable_acs_redir=0000:00:01.0;02:00.0" quiet',
    'pci=nomsi,disable_acs_redir=0000:00:01.0;02:00.0',
  ]) {
    writeFileSync(`${root}/proc/cmdline`, line);
    t.equal(readSysfs(root).kernel.disableAcsRedir, '0000:00:01.0;02:00.0');
  }
  writeFileSync(`${root}/proc/cmdline`, 'quiet');
  t.equal(readSysfs(root).kernel.disableAcsRedir, null);
});

t.test('CPUs that name neither vendor nor family', async (t) => {
  const arm = t.testdir({
    proc: { cpuinfo: 'processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n' },
  });
  t.same(readSysfs(arm).topology.cpu, { vendor: null, family: null });
});
