/**
 * The kernel's half of the scenarios: the booted machine's own, asked through the probe. What came out is written to
 * /out/scenarios.json, where the host compares it with the emulator's half. Argument `after`: those that take
 * drives away.
 */
import { constants, existsSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { Died, type Outcome, runScenario, type Surroundings, said, scenariosOf } from '../scenarios.js';
import { guest, guestPlan, Probe, sh } from './guest.js';

const OUT = '/out/scenarios.json';
const plan = guestPlan();
const { drives } = guest();
const after = process.argv[2] === 'after';
const scenarios = scenariosOf(plan.machine).filter((scenario) => scenario.after === after);

/** `'nvme0:disk'` → `'/dev/nvme1n1'`. */
function door(word: string): string {
  const [name, what] = word.split(':');
  if (name === 'loop') return loop();
  const drive = drives.find((d) => d.name === name);
  if (drive === undefined) return `/dev/${name}n1`;
  switch (what) {
    case 'allocate':
      return `${drive.sysfs}/p2pmem/allocate`;
    case 'ctrl':
      return drive.controller;
    case 'char':
      return drive.chars[0]!;
    default:
      return drive.disks[what === 'disk2' ? 1 : 0]!;
  }
}

let loopDevice: string | null = null;
function loop(): string {
  if (loopDevice === null) {
    sh('dd if=/dev/zero of=/tmp/scenarios.img bs=1M count=4');
    loopDevice = sh('losetup -f').text;
    sh(`losetup ${loopDevice} /tmp/scenarios.img`);
  }
  return loopDevice;
}

function available(name: string): number | null {
  const drive = drives.find((d) => d.name === name)!;
  try {
    return Number(readFileSync(`${drive.sysfs}/p2pmem/available`, 'utf8'));
  } catch {
    return null;
  }
}

/** A BDF of the kernel's, as the machine description has it. */
function described(bdf: string): string {
  const found = [...plan.drives, ...plan.acs].find((f) => f.guestBdf === bdf);
  return found?.bdf ?? bdf;
}

function driveAt(bdf: string): string {
  return plan.drives.find((d) => d.guestBdf === bdf)?.name ?? bdf;
}

/** The kernel's words on a pair come in up to two lines, the second with the ports. */
function readWords(lines: readonly string[]): string[] {
  const words: string[] = [];
  let redirected: [string, string] | null = null;
  for (const line of lines) {
    const client = /(\w{4}:\w\w:\w\w\.\w): /.exec(line)?.[1] ?? '';
    const provider = /client and provider \(([\w:.]+)\)/.exec(line)?.[1];
    if (/cannot be used for peer-to-peer DMA/.test(line) && provider !== undefined) {
      words.push(said.unreachable(driveAt(client), driveAt(provider)));
    } else if (/ACS redirect is set between/.test(line) && provider !== undefined) {
      redirected = [driveAt(client), driveAt(provider)];
    } else if (/pci=disable_acs_redir=/.test(line) && redirected !== null) {
      const ports = /disable_acs_redir=(\S+)/.exec(line)![1]!.split(';').map(described);
      words.push(said.redirected(...redirected, ports.join(';')));
      redirected = null;
    }
  }
  return words;
}

const log = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);

/** What the kernel logged since the last call: one record per read, until it has no more. */
function freshLines(): string[] {
  const record = Buffer.alloc(8192);
  const lines: string[] = [];
  for (;;) {
    try {
      const length = readSync(log, record);
      lines.push(record.toString('latin1', record.indexOf(';') + 1, length).split('\n')[0]!);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') return lines;
      if (code !== 'EPIPE') throw error; // the oldest records were overwritten
    }
  }
}

const broken: string[] = [];

const around: Surroundings = {
  async respondent() {
    const probe = new Probe();
    return {
      async ask(question) {
        const [word, what = '', ...rest] = question.split(' ');
        if (word === 'available') {
          const bytes = available(what);
          return bytes === null ? 'err 2' : `ok ${bytes}`;
        }
        if (word === 'remove') {
          const { sysfs } = drives.find((d) => d.name === what)!;
          return sh(`echo 1 > ${sysfs}/remove`).status === 0 ? 'ok 0' : 'err 2';
        }
        const asked = [word, what, ...rest.map((w) => (/^\w+:\w+$/.test(w) ? door(w) : w))].join(' ');
        return probe.ask(asked).catch((error: Error) => {
          throw new Died(error.message);
        });
      },
      end: (signal) => probe.end(signal ?? undefined),
    };
  },
  available: async () => Object.fromEntries(drives.map(({ name }) => [name, available(name)])),
  async said() {
    const lines = freshLines();
    broken.push(...lines.filter((line) => /BUG:|WARNING:|Oops/.test(line)));
    return readWords(lines);
  },
};

t.teardown(() => {
  if (loopDevice !== null) sh(`losetup -d ${loopDevice}`);
});

t.test(`${scenarios.length} scenarios of ${plan.machine}`, { timeout: 600_000 }, async (t) => {
  const outcomes: Record<string, Outcome> = existsSync(OUT) ? JSON.parse(readFileSync(OUT, 'utf8')) : {};
  for (const scenario of scenarios) {
    const outcome = await runScenario(scenario, around);
    outcomes[scenario.name] = outcome;
    const present = Object.entries(outcome.after).filter(([, bytes]) => bytes !== null);
    t.strictSame(
      present,
      present.map(([name]) => [name, outcome.before[name]]),
      `${scenario.name}: the pools are whole again`,
    );
  }
  writeFileSync(OUT, JSON.stringify(outcomes));
  t.strictSame(broken, [], 'nothing broke in the kernel');
});
