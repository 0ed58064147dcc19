import t from 'tap';
import { olderThan, parseRelease, refusesPeersWithEinval } from '../../lib/kernel/release.js';

t.test('a release is its numbers, whatever a distribution adds', async (t) => {
  const releases = {
    '6.12': [6, 12, 0],
    '6.8.0-52-generic': [6, 8, 0],
    '6.12.117+deb12-amd64': [6, 12, 117],
    '5.14.0-503.11.1.el9_5.x86_64': [5, 14, 0],
    '7.0.0-rc3': [7, 0, 0],
    '7.1-rc2': [7, 1, 0],
    '6.6.87.2-microsoft-standard-WSL2': [6, 6, 87],
    '6.17.0-35-generic\n': [6, 17, 0],
    '6.18.44-fc-v595': [6, 18, 44],
  };
  for (const [text, numbers] of Object.entries(releases)) t.same(parseRelease(text), numbers, text);
  for (const text of ['', 'generic', '6', '6.', 'v6.12', '-1.2', null, undefined]) {
    t.equal(parseRelease(text), null, `${text}: not a release`);
  }
});

t.test('older is by number, not by letter, and a patch counts', async (t) => {
  const six = parseRelease('6.12.117+deb12-amd64')!;
  t.equal(olderThan(six, 6, 12), false);
  t.equal(olderThan(six, 6, 12, 118), true);
  t.equal(olderThan(six, 6, 2), false, '12 is more than 2');
  t.equal(olderThan(six, 7, 0), true);
  t.equal(olderThan(six, 5, 99), false);
});

t.test('which errno refuses a pair', async (t) => {
  const of = (text: string) => refusesPeersWithEinval(parseRelease(text));
  t.equal(of('6.16.12'), false);
  t.equal(of('6.17.0-rc1'), true, 'a release candidate has what its release has');
  t.equal(of('7.0.0-22-generic'), true);
  t.equal(of('something'), null, 'not known');
});
