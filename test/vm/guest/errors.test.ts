/**
 * Drives that answer with an error, or are reset, in the middle of a copy: nothing that was not written is counted, and a
 * copy with a journal goes on where it stopped once the error is mended. The errors are injected by the kernel's nvme
 * driver (CONFIG_FAULT_INJECTION), as a drive would give them.
 */
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { p2pdma, start } from './command.js';
import { type GuestDrive, guestDrive, p2pmem, sh, writePattern } from './guest.js';

const MIB = 2 ** 20;
const BYTES = 4 * MIB;
/** A and B have CMBs; what goes from C to D needs one of them. */
const [A, B, C, D] = ['nvme0', 'nvme1', 'nvme2', 'nvme3'].map(guestDrive) as [
  GuestDrive,
  GuestDrive,
  GuestDrive,
  GuestDrive,
];
const disk = (drive: GuestDrive) => drive.disks[0]!;
const UNRECOVERED_READ = 0x281;
const WRITE_FAULT = 0x280;
const free = () => [A, B].map((drive) => p2pmem(drive, 'available'));
const before = free();

/** Every command of a namespace ends with this status, until `mend`. */
function injure(drive: GuestDrive, status: number): void {
  const folder = `/sys/kernel/debug/${disk(drive).slice(5)}/fault_inject`;
  const set = (file: string, value: number) => `echo ${value} > ${folder}/${file}`;
  const { status: failed, text } = sh(
    [set('status', status), set('dont_retry', 1), set('times', -1), set('probability', 100)].join(' && '),
  );
  if (failed !== 0) throw new Error(text);
}

function mend(drive: GuestDrive): void {
  sh(`echo 0 > /sys/kernel/debug/${disk(drive).slice(5)}/fault_inject/probability`);
}

const copyOf = (journal: string, more: readonly string[]) => {
  const range = ['--end', String(BYTES - 1)];
  return ['copy', disk(C), disk(D), ...range, '--resume', journal, '--force', ...more];
};

const oneLine = (text: string) => text.replace(/\s+/g, ' ');

/** A copy with a journal during which `happens` happens once some of it is done. */
async function interrupted(journal: string, happens: () => void, ...more: string[]) {
  const child = start(...copyOf(journal, more), '--json', '--chunk', '64K', '--bwlimit', '1M');
  const closed = once(child, 'close') as Promise<[number | null, string | null]>;
  let [happened, counted, errors] = [false, 0, ''];
  let stdout = '';
  child.stdout.on('data', (text: string) => {
    stdout += text;
  });
  for await (const line of createInterface({ input: child.stderr })) {
    const said = JSON.parse(line);
    if (said.type === 'progress') counted = said.bytes;
    else errors += `${line}\n`;
    if (said.type === 'progress' && said.bytes > 1.5 * MIB && !happened) {
      happened = true;
      happens();
    }
  }
  const [status] = await closed;
  return { status, counted, errors, stdout, happened };
}

async function goesOn(t: Test, journal: string, ...more: string[]): Promise<void> {
  t.ok(existsSync(journal), 'there is a journal');
  const { status, stdout, stderr } = await p2pdma(...copyOf(journal, more), '--json', '--verify');
  t.equal(status, 0, stderr);
  const receipt = JSON.parse(stdout);
  t.ok(receipt.resumedFrom > 0, `from ${receipt.resumedFrom}`);
  t.equal(receipt.bytes, BYTES - receipt.resumedFrom);
  t.equal(sh(`cmp -n ${BYTES} ${disk(C)} ${disk(D)}`).status, 0, 'identical');
  t.notOk(existsSync(journal), 'the journal is gone');
  t.same(free(), before, 'the pools are whole');
}

/** The receipt of a copy that failed counts what is on the destination, and no more than that. */
function isTrue(t: Test, stdout: string, counted: number): void {
  const { bytes, verified } = JSON.parse(stdout);
  t.ok(bytes >= counted && bytes < BYTES, `${bytes} of ${BYTES} bytes`);
  t.equal(verified, false);
  sh('echo 3 > /proc/sys/vm/drop_caches');
  t.equal(sh(`cmp -n ${bytes} ${disk(C)} ${disk(D)}`).status, 0, 'those are there');
}

const ways = [['--require-p2p'], ['--require-p2p', '--engine', 'passthrough'], ['--provider', 'none']];
let seed = 200;

const faults = [
  { what: 'a media error of the source', drive: C, status: UNRECOVERED_READ, said: /"code":"ENODATA"/ },
  // Nothing is to be restored from a copy: it was to be written.
  { what: 'a write fault of the destination', drive: D, status: WRITE_FAULT, said: /^(?!.*restor)/is },
];

for (const more of ways) {
  for (const { what, drive, status, said } of faults) {
    t.test(`${what}, ${more.join(' ')}`, async (t) => {
      const journal = '/tmp/fault.journal';
      writePattern(disk(C), BYTES, seed++);
      const copied = await interrupted(journal, () => injure(drive, status), ...more);
      mend(drive);
      const { errors, stdout, counted } = copied;
      t.equal(copied.status, 1, errors);
      isTrue(t, stdout, counted);
      t.match(errors, new RegExp(disk(drive)), oneLine(errors));
      t.match(errors, said);
      await goesOn(t, journal, ...more);
    });
  }
}

for (const [role, drive, more] of [
  ['source', C, ['--provider', A.kernelName]],
  ['destination', D, ['--provider', A.kernelName]],
  ['provider', A, ['--provider', A.kernelName]],
] as const) {
  t.test(`a reset of the ${role} in the middle of a copy`, async (t) => {
    const journal = `/tmp/reset-${role}.journal`;
    writePattern(disk(C), BYTES, seed++);
    const { status, errors, stdout, happened } = await interrupted(
      journal,
      () => sh(`echo 1 > ${drive.sysfs}/nvme/${drive.kernelName}/reset_controller`),
      ...more,
    );
    t.ok(happened);
    t.comment(`note: reset of the ${role}: ${status}: ${oneLine(errors) || 'done'}`);
    if (status === 0) {
      t.match(JSON.parse(stdout), { bytes: BYTES });
      sh('echo 3 > /proc/sys/vm/drop_caches');
      t.equal(sh(`cmp -n ${BYTES} ${disk(C)} ${disk(D)}`).status, 0, 'identical');
      rmSync(journal, { force: true });
      t.same(free(), before, 'the pools are whole');
    } else {
      await goesOn(t, journal, ...more);
    }
  });
}
