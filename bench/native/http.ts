import { createReadStream } from 'node:fs';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { System } from 'p2pdma';
import type { Competitor } from '../harness.js';
import type { Devices } from './devices.js';
import { run } from './run.js';

const CLIENTS = fileURLToPath(new URL('http-clients.js', import.meta.url));

export interface Downloads {
  /** Clients at once, each of its own part of the device. */
  readonly clients: number;
  /** Bytes for all of them. */
  readonly bytes: number;
  readonly chunk: number;
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly highWaterMark: number;
}

/** `createReadStream().pipe(response)` of this package. */
export function ourDownload(system: System, devices: Devices, downloads: Downloads): Competitor {
  return download('p2pdma', devices, downloads, (range, response) => {
    system.createReadStream(devices.source, range).pipe(response);
  });
}

/** The same of node:fs, through the page cache, which is empty at the start of each round. */
export function fsDownload(devices: Devices, downloads: Downloads): Competitor {
  return download('fs', devices, downloads, (range, response) => {
    createReadStream(devices.source, range).pipe(response);
  });
}

/** This process serves; a process of their own downloads. Measured are its seconds, and the CPU time of this process. */
function download(
  who: string,
  { settle }: Devices,
  { clients, bytes, chunk }: Downloads,
  serve: (range: Range, response: ServerResponse) => void,
): Competitor {
  const share = Math.floor(bytes / clients / chunk) * chunk;
  return {
    name: `${who}, HTTP, ${chunk / 1024} KiB chunks, ${clients} clients`,
    async run() {
      let before: NodeJS.CpuUsage | undefined;
      let used: NodeJS.CpuUsage | undefined;
      const listener: RequestListener = ({ url }, response) => {
        before ??= process.cpuUsage();
        const start = Number(url!.slice(1)) * share;
        response.on('close', () => {
          used = process.cpuUsage(before);
        });
        serve({ start, end: start + share - 1, highWaterMark: chunk }, response);
      };
      const server = createServer(listener);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      const said = await run(process.execPath, [CLIENTS, `${port}`, `${clients}`, `${share}`]);
      await new Promise((resolve) => server.close(resolve));
      await settle();
      const { seconds } = JSON.parse(said) as { seconds: number };
      const { user, system } = used!;
      return { seconds, userCpu: user / 1e6, cpu: (user + system) / 1e6 };
    },
  };
}
