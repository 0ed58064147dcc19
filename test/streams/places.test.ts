import t from 'tap';
import { Places } from '../../lib/streams/places.js';

t.test('each goes behind those that came before', async (t) => {
  const places = new Places(100);
  const at: number[] = [];
  for (const bytes of [10, 0, 5]) places.take(bytes, (position) => at.push(position));
  t.same(at, [100, 110, 110]);
  t.equal(places.next, 115);
});

t.test(
  'whoever comes while a range is lent has it stopped, and is placed behind what was written of it',
  async (t) => {
    const places = new Places(0);
    let stops = 0;
    t.equal(places.lend({ stop: () => stops++ }), true);
    t.equal(places.lend({ stop: () => t.fail('it has no range') }), false, 'one range at a time');
    const at: [string, number][] = [];
    places.take(4, (position) => at.push(['first', position]));
    places.take(6, (position) => at.push(['second', position]));
    t.same(at, [], 'they wait');
    t.ok(stops > 0);
    places.giveBack(4096);
    t.same(at, [
      ['first', 4096],
      ['second', 4100],
    ]);
    t.equal(places.next, 4106);
    places.stop();
    t.equal(stops, 2, 'what is over is not stopped');
  },
);

t.test('one who waits may lend in its turn, and those behind it wait on', async (t) => {
  const places = new Places(0);
  places.lend({ stop: () => {} });
  const at: number[] = [];
  places.take(1, () => places.lend({ stop: () => {} }));
  places.take(1, (position) => at.push(position));
  places.giveBack(10);
  t.same(at, []);
  places.giveBack(5);
  t.same(at, [16]);
});
