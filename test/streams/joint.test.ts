import t from 'tap';
import { Joint } from '../../lib/streams/joint.js';

t.test('the first error in the order of the pieces, and the bytes before it', async (t) => {
  const answers: [Error | null, number][] = [];
  const joint = new Joint((error, moved) => answers.push([error, moved]));
  const [a, b, c] = [joint.piece(10), joint.piece(20), joint.piece(30)];
  joint.close();
  const [early, late] = [new Error('early'), new Error('late')];
  c(late, 5);
  t.equal(joint.failed, true);
  a(null, 10);
  t.equal(answers.length, 0, 'one is not over');
  b(early, 3);
  t.same(answers, [[early, 13]]);

  new Joint((error, moved) => answers.push([error, moved])).close();
  t.same(answers[1], [null, 0], 'nothing to do');
});
