import t from 'tap';
import { Members } from '../../lib/base/members.js';

const named = (name: string) => ({ name });
const names = (members: Members<{ name: string }>) => [...members].map(({ name }) => name).join('');

t.test('in the order in which they came, whoever left in between', async (t) => {
  const members = new Members<{ name: string }>();
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(named) as [
    { name: string },
    { name: string },
    { name: string },
    { name: string },
  ];
  t.equal(names(members), '');
  for (const one of [a, b, c, d]) members.add(one);
  members.add(b);
  t.equal(names(members), 'abcd', 'who is there already stays in place');
  for (const [one, left] of [
    [b, 'acd'],
    [d, 'ac'],
    [a, 'c'],
    [c, ''],
  ] as const) {
    t.equal(members.delete(one), true);
    t.equal(members.delete(one), false);
    t.equal(names(members), left);
    t.equal(members.size, left.length);
  }
  members.add(a);
  members.add(b);
  t.equal(names(members), 'ab', 'who left may come again');
});

t.test('who comes or goes during a walk changes nothing of it', async (t) => {
  const members = new Members<{ name: string }>();
  for (const name of 'abc') members.add(named(name));
  let seen = '';
  for (const one of members) {
    seen += one.name;
    members.delete(one);
    members.add(named(one.name.toUpperCase()));
  }
  t.equal(seen, 'abc');
  t.equal(names(members), 'ABC');
});
