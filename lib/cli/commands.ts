/**
 * The commands, in the order of the help. This module contains the one line that the help prints for each command. The
 * rest of a command, with its imports, is loaded when its name is on the command line (program.ts). Modules of lib/cli
 * that are loaded for every command line must therefore not import a command's module, nor the library itself.
 */
import type { Command } from 'commander';
import { SHELLS } from './shells.js';

export interface CommandRow {
  readonly group: 'Looking:' | 'Doing:' | 'Other:';
  readonly name: string;
  readonly summary: string;
  readonly args?: readonly (readonly [term: string, meaning: string])[];
  /** Used only by the shells: it is not in the help, and needs all other commands. */
  readonly hidden?: true;
  /** It prints without colours. */
  readonly plain?: true;
  /** Returns the function that defines the command's options, its manual and its action. */
  readonly load: () => Promise<(command: Command) => void>;
}

export const COMMANDS: readonly CommandRow[] = [
  {
    group: 'Looking:',
    name: 'doctor',
    summary: 'will peer-to-peer DMA work here, and if not, what is to be done',
    load: async () => (await import('./doctor.js')).addDoctor,
  },
  {
    group: 'Looking:',
    name: 'list',
    summary: 'the NVMe controllers, their namespaces and their CMBs',
    load: async () => (await import('./list.js')).addList,
  },
  {
    group: 'Looking:',
    name: 'topo',
    summary: 'the PCI tree: host bridges, ports, switches, drives, CMBs',
    load: async () => (await import('./topo/command.js')).addTopo,
  },
  {
    group: 'Looking:',
    name: 'explain',
    summary: 'why a provider and its clients can, or cannot, do peer-to-peer DMA',
    args: [
      [
        '[provider]',
        'whose memory: a PCI address, controller, namespace, block device or file (default: all)',
      ],
      ['[client...]', 'who does DMA to it, named likewise (default: every NVMe drive)'],
    ],
    load: async () => (await import('./explain.js')).addExplain,
  },
  {
    group: 'Looking:',
    name: 'top',
    summary: 'what the copies on this machine move now, by provider and client',
    load: async () => (await import('./top.js')).addTop,
  },
  {
    group: 'Looking:',
    name: 'snapshot',
    summary: 'this machine as JSON, for the emulator',
    load: async () => (await import('./snapshot.js')).addSnapshot,
  },
  {
    group: 'Doing:',
    name: 'copy',
    summary: 'copy a namespace, device or file to one or several others',
    args: [
      ['<src>', 'namespace (nvme0n1), block device, serial number or file; - is stdin'],
      ['<dst...>', 'one or several likewise (- is stdout); the source is read once for all of them'],
    ],
    load: async () => (await import('./copy/command.js')).addCopy,
  },
  {
    group: 'Doing:',
    name: 'trace',
    summary: 'watch requests go through the layers',
    load: async () => (await import('./trace/command.js')).addTrace,
  },
  {
    group: 'Doing:',
    name: 'bench',
    summary: 'measure peer to peer beside host memory: speed and CPU time',
    args: [['<device...>', 'namespaces, devices or files; with --write the first is copied over the others']],
    load: async () => (await import('./bench/command.js')).addBench,
  },
  {
    group: 'Doing:',
    name: 'demo',
    summary: 'stream a real file between two emulated drives, and verify it',
    args: [['[file]', 'any file (default: the running node binary)']],
    load: async () => (await import('./demo.js')).addDemo,
  },
  {
    group: 'Doing:',
    name: 'sim',
    summary: 'play random programs and faults on an emulated machine, and check all',
    load: async () => (await import('./sim.js')).addSim,
  },
  {
    group: 'Other:',
    name: 'completion',
    summary: 'the completion script of a shell',
    args: [['<shell>', `which shell: ${SHELLS.join(', ')}`]],
    plain: true,
    load: async () => (await import('./completion.js')).addCompletion,
  },
  {
    group: 'Other:',
    name: '__complete',
    summary: '',
    args: [
      ['<shell>', ''],
      ['[words...]', ''],
    ],
    hidden: true,
    plain: true,
    load: async () => (await import('./completion.js')).addComplete,
  },
];
