import t from 'tap';
import { examine } from '../../lib/explain/doctor/checks.js';
import { gatherFacts, type MachineFacts } from '../../lib/explain/doctor/facts.js';
import { explainAll } from '../../lib/explain/explain.js';
import { type LargeMachine, largeMachine } from '../helpers/large-machine.js';

/** How often the way up from a drive is followed, and the controllers are asked for. */
interface Work {
  ways: number;
  controllers: number;
}

async function watched(size: LargeMachine): Promise<{ facts: MachineFacts; work: Work }> {
  const facts = await gatherFacts({ machine: largeMachine(size) });
  const work: Work = { ways: 0, controllers: 0 };
  for (const { pdev } of facts.machine.controllers) {
    const { upstream } = pdev!;
    Object.defineProperty(pdev, 'upstream', {
      get: () => {
        work.ways++;
        return upstream;
      },
    });
  }
  const { machine } = facts;
  const { controllers } = machine;
  Object.defineProperty(machine, 'controllers', {
    get: () => {
      work.controllers++;
      return controllers;
    },
  });
  return { facts, work };
}

const SIZE = { hostBridges: 1, switches: 2, drives: 10 };
const PAIRS = 20 * 20;

t.test('explain follows the way of each pair once, and asks for the controllers once', async (t) => {
  const { facts, work } = await watched(SIZE);
  const all = explainAll(facts.machine);
  t.equal(all.flatMap(({ clients }) => clients).length, PAIRS);
  t.equal(work.controllers, 1);
  // Once from the client, once from the provider; and both again for the hops of pairs that go through the host bridge.
  const throughHostBridge = PAIRS / 2;
  t.equal(work.ways, 2 * PAIRS + 2 * throughHostBridge);
  await facts.close();
});

t.test('doctor computes no pair more often than explain does', async (t) => {
  // With this kernel, two of its known bugs depend on the pairs.
  const size = { ...SIZE, over: { kernel: '6.18', iommu: 'translating' as const } };
  const explained = await watched(size);
  explainAll(explained.facts.machine);
  const { facts, work } = await watched(size);
  t.match(
    examine(facts).filter(({ check }) => check === 'pairs'),
    [{ fact: /^180 pairs on the bus/ }, { fact: /^200 pairs through the host bridge/ }],
  );
  t.equal(work.ways, explained.work.ways);
  t.ok(work.controllers < 50, `${work.controllers} do not depend on the number of pairs`);
  await facts.close();
  await explained.facts.close();
});
