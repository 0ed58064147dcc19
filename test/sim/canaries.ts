/**
 * Planted faults: what the simulation must find. Each is a change of one place of the built package, made in a copy of it; the
 * package itself has no switch for any of them.
 */
export interface PlantedFault {
  readonly name: string;
  /** What is wrong with the package then. */
  readonly what: string;
  /** What of the promises it breaks. */
  readonly breaks: string;
  /** Of dist/lib. */
  readonly file: string;
  /** Occurs once in the file. */
  readonly find: string;
  readonly replace: string;
}

export const CANARIES: readonly PlantedFault[] = [
  {
    name: 'slot-early',
    what: 'A slot is free for the next read while it is still being written from.',
    breaks: 'invariant 1',
    file: 'streams/pump.js',
    find: 'slot?.hold();',
    replace: '',
  },
  {
    name: 'last-block',
    what: 'A writer leaves out the last part of a block.',
    breaks: 'every byte',
    file: 'streams/range-writer.js',
    find: 'this.#part(view.subarray(bytes - tail, bytes), offset + bytes - tail, joint);',
    replace: '',
  },
  {
    name: 'no-flush',
    what: 'A writer finishes without a flush.',
    breaks: 'invariant 4',
    file: 'streams/write-stream.js',
    find: 'await this.attachment.target.flush();',
    replace: '',
  },
  {
    name: 'short-in-full',
    what: 'A read that stopped early counts as if it had read everything.',
    breaks: 'invariant 3',
    file: 'streams/transfer.js',
    find: "if (this.op === 'read' && kind === 'file')",
    replace:
      "if (this.op === 'read' && kind === 'file' && this.result > 0) { this.moved = this.#view.length; return this.#finish(0); } if (this.op === 'read' && kind === 'file')",
  },
  {
    name: 'journal-ahead',
    what: 'A journal records a stretch before it is copied.',
    breaks: 'journal',
    file: 'copy/resume.js',
    find: 'await this.#ends.assertThere();',
    replace: 'await this.#ends.assertThere(); await this.#journal.mark(target);',
  },
  {
    name: 'journal-kept',
    what: 'A journal stays when its copy is complete, so that the next one does nothing.',
    breaks: 'journal',
    file: 'copy/journal.js',
    find: 'await unlink(this.path);\n        await syncDirectory(this.path);',
    replace: 'await syncDirectory(this.path);',
  },
  {
    name: 'bounce-offset',
    what: 'What the CPU copies is taken from the beginning of its chunk, instead of from where it is.',
    breaks: 'every byte',
    file: 'streams/byte-queue.js',
    find: 'chunk.subarray(this.#used, this.#used + take)',
    replace: 'chunk.subarray(0, take)',
  },
  {
    name: 'media-error-ignored',
    what: 'A transfer that ended with an error counts as moved.',
    breaks: 'invariant 3',
    file: 'kernel/nvme-core.js',
    find: 'return statusErrno.get(status & nvme.NVME_SC_MASK) ?? -EIO;',
    replace: 'return 0;',
  },
  {
    name: 'p2p-for-host',
    what: 'A receipt says that bytes went peer to peer, and they went through host memory.',
    breaks: 'receipts',
    file: 'streams/receipt.js',
    find: 'path: { ...path }',
    replace: 'path: { ...path, peerBus: path.peerBus + path.hostDram, hostDram: 0 }',
  },
  {
    name: 'merge-from-zeros',
    what: 'The rest of a block that is written in part is not read before.',
    breaks: 'every byte',
    file: 'streams/partial-block.js',
    find: "await transfer(target, { op: 'read', ...place }, path);",
    replace: 'block.fill(0);',
  },
  {
    name: 'slot-leak',
    what: 'The memory of a pool is not unmapped.',
    breaks: 'invariant 2',
    file: 'streams/slot-pool.js',
    find: 'this.#mapping.munmap();',
    replace: '',
  },
  {
    name: 'ends-early',
    what: 'A reader of a device ends after its first chunks.',
    breaks: 'every byte',
    file: 'streams/read-ahead.js',
    find: 'this.#position += got;',
    replace:
      'this.#position += got; if (!this.#isFile && got < 4096 && this.#jobs.length === 0) this.#end = this.#next = this.#position;',
  },
  {
    name: 'verify-itself',
    what: 'Verification compares the source with itself.',
    breaks: 'every byte',
    file: 'copy/verify.js',
    find: 'const right = readBack(destination, bytes, allocate);',
    replace: 'const right = readBack(source, bytes, allocate);',
  },
  {
    name: 'unmap-forgotten',
    what: 'The driver does not unmap what it mapped for a transfer of one segment.',
    breaks: 'invariant 7',
    file: 'kernel/nvme-pci-data.js',
    find: 'dmaUnmapPhysSingle(this.#device, iod.singleAddress, iod.singleLength, iod.dir);',
    replace: '',
  },
  {
    name: 'busy-opened',
    what: 'A device that is open for writing is opened for writing again.',
    breaks: 'invariant 6',
    file: 'emulator/backend.js',
    find: 'throw errnoError(-EBUSY,',
    replace: 'void errnoError(-EBUSY,',
  },
  {
    name: 'acknowledged-early',
    what: 'A write is acknowledged before the kernel has its bytes.',
    breaks: 'invariant 4',
    file: 'streams/write-stream.js',
    find: '}, over));\n    }\n    #writeChunks',
    replace: '}, () => {}));\n        setImmediate(over, null);\n    }\n    #writeChunks',
  },
  {
    name: 'no-wake-up',
    what: 'A pump is not told when a slot is free again.',
    breaks: 'progress',
    file: 'streams/pump.js',
    find: 'this.#parts.scope.run(this.#turnNow);',
    replace: '',
  },
  {
    name: 'lent-after-close',
    what: 'A chunk that was lent stays usable when the system is closed.',
    breaks: 'invariant 5',
    file: 'emulator/bus/device-memory.js',
    find: 'extent.mapped = false;\n        this.#restore(extent);',
    replace: 'extent.mapped = false;',
  },
  // What the simulation found in the package itself, planted again.
  {
    name: 'late-listener',
    what: 'A stream that fails while another end of its copy is being opened has no listener.',
    breaks: 'an error ends the copy, not the process',
    file: 'copy/copy.js',
    find: "stream.on('error', () => { });",
    replace: '{}',
  },
  {
    name: 'reset-not-awaited',
    what: 'A drive is shut down while it is being reset.',
    breaks: 'invariant 7',
    file: 'kernel/nvme-pci.js',
    find: 'await this.#resetting;',
    replace: '',
  },
  {
    name: 'scanned-once',
    what: 'A file that is opened during a reset of its drive is not found there.',
    breaks: 'nothing fails without a reason',
    file: 'emulator/backend.js',
    find: 'if (driver.settled === settled)\n                throw error;',
    replace: 'throw error;',
  },
  {
    name: 'merge-unwatched',
    what: 'A block whose read into peer memory was dropped is written back.',
    breaks: 'every byte',
    file: 'streams/partial-block.js',
    find: 'if (lost !== null)\n        throw lost;',
    replace: '',
  },
];
