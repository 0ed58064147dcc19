import t from 'tap';
import { olderThan, parseRelease } from '../../lib/backend/kernel-release.js';

t.test('a release is its numbers, whatever a distribution adds; its suffix tells whose it is', async (t) => {
  const releases: Record<string, [number[], string | null]> = {
    '6.12': [[6, 12, 0], null],
    '6.8.0-52-generic': [[6, 8, 0], 'Ubuntu'],
    '6.17.0-35-generic\n': [[6, 17, 0], 'Ubuntu'],
    '6.17.0-1009-nvidia': [[6, 17, 0], 'NVIDIA'],
    '6.8.0-1021-nvidia-64k': [[6, 8, 0], 'NVIDIA'],
    '6.12.117+deb12-amd64': [[6, 12, 117], 'Debian'],
    '6.1.0-28-amd64': [[6, 1, 0], 'Debian'],
    '5.14.0-503.el9': [[5, 14, 0], 'Red Hat Enterprise Linux'],
    '5.14.0-503.11.1.el9_5.x86_64': [[5, 14, 0], 'Red Hat Enterprise Linux'],
    '6.12.0-100.28.2.el10uek.x86_64': [[6, 12, 0], 'Oracle UEK'],
    '5.15.0-300.163.18.el9uek.x86_64': [[5, 15, 0], 'Oracle UEK'],
    '6.6.0-28.0.0.34.oe2403.x86_64': [[6, 6, 0], 'openEuler'],
    '5.10.134-16.1.an8.x86_64': [[5, 10, 134], 'Anolis OS'],
    '6.1.115-126.197.amzn2023.x86_64': [[6, 1, 115], 'Amazon Linux'],
    '6.6.57.1-7.azl3': [[6, 6, 57], 'Azure Linux'],
    '6.11.4-301.fc41.x86_64': [[6, 11, 4], 'Fedora'],
    '6.13.0-1-default': [[6, 13, 0], 'SUSE'],
    '6.12.1-arch1-1': [[6, 12, 1], 'Arch Linux'],
    '6.8.12-4-pve': [[6, 8, 12], 'Proxmox VE'],
    '6.12.57-talos': [[6, 12, 57], 'Talos Linux'],
    '6.6.87.2-microsoft-standard-WSL2': [[6, 6, 87], 'Microsoft WSL'],
    '7.0.0-rc3': [[7, 0, 0], null],
    '7.1-rc2': [[7, 1, 0], null],
    '6.18.44-fc-v595': [[6, 18, 44], null],
  };
  for (const [text, [version, vendor]] of Object.entries(releases)) {
    t.match(parseRelease(text), { text: text.trim(), version, vendor }, text);
  }
  for (const text of ['', 'generic', '6', '6.', 'v6.12', '-1.2', null, undefined]) {
    t.equal(parseRelease(text), null, `${text}: not a release`);
  }
});

t.test('a candidate is one, and a series is one', async (t) => {
  t.match(parseRelease('7.0.0-rc3'), { candidate: 3, series: false });
  t.match(parseRelease('7.1-rc2'), { candidate: 2, series: false });
  t.match(parseRelease('7.1'), { candidate: null, series: true });
  t.match(parseRelease('7.1.0'), { candidate: null, series: false });
});

t.test('older is by number, not by letter, and a patch counts', async (t) => {
  const six = parseRelease('6.12.117+deb12-amd64')!.version;
  t.equal(olderThan(six, 6, 12), false);
  t.equal(olderThan(six, 6, 12, 118), true);
  t.equal(olderThan(six, 6, 2), false, '12 is more than 2');
  t.equal(olderThan(six, 7, 0), true);
  t.equal(olderThan(six, 5, 99), false);
});
