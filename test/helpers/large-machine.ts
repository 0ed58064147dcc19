import type { MachineInput } from '../../lib/machine/schema.js';

type FunctionInput = MachineInput['functions'][number];

export interface LargeMachine {
  readonly hostBridges: number;
  /** Per host bridge. */
  readonly switches: number;
  /** Per switch; each has a CMB. */
  readonly drives: number;
  readonly over?: Partial<MachineInput>;
}

/**
 * A machine of many drives. Each host bridge is a PCI domain of its own:
 *
 *     00:00.0 host bridge     00:01.0 root port ─▶ 10:00.0 switch ─┬─ 11:00.0 ─▶ 12:00.0 drive
 *                             00:02.0 root port ─▶ …               └─ 11:01.0 ─▶ 13:00.0 drive
 */
export function largeMachine({ hostBridges, switches, drives, over = {} }: LargeMachine): MachineInput {
  const domains = Array.from({ length: hostBridges }, (_, domain) => domain);
  return {
    version: 1,
    name: 'large',
    cpu: { vendor: 'GenuineIntel', family: 6 },
    hostBridges: domains.map((domain) => ({ domain, bus: 0 })),
    functions: domains.flatMap((domain) => oneDomain(domain, switches, drives)),
    ...over,
  };
}

function oneDomain(domain: number, switches: number, drives: number): FunctionInput[] {
  const at = (bus: number, device: number): string => `${hex(domain, 4)}:${hex(bus, 2)}:${hex(device, 2)}.0`;
  const all: FunctionInput[] = [
    { bdf: at(0, 0), type: 'conventional', vendor: 0x8086, device: 0x09a2, class: 0x060000 },
  ];
  let bus = 1;
  for (let i = 0; i < switches; i++) {
    const root = at(0, i + 1);
    const up = at(bus++, 0);
    const inner = bus++;
    all.push(
      { bdf: root, type: 'root-port', vendor: 0x8086, device: 0x352a },
      { bdf: up, type: 'upstream-port', upstream: root, vendor: 0x1000, device: 0xc030 },
    );
    for (let j = 0; j < drives; j++) {
      const down = at(inner, j);
      all.push(
        { bdf: down, type: 'downstream-port', upstream: up, vendor: 0x1000, device: 0xc030 },
        {
          bdf: at(bus++, 0),
          type: 'endpoint',
          upstream: down,
          vendor: 0x1b36,
          device: 0x0010,
          nvme: { cmb: { size: '16MiB' }, namespaces: [{ nsid: 1, size: '1GiB' }] },
        },
      );
    }
  }
  return all;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
