/** `node http-clients.js PORT CLIENTS BYTES`: as many downloads at once, thrown away. Prints the seconds they took. */
import { get } from 'node:http';

const [port, clients, bytes] = process.argv.slice(2).map(Number) as [number, number, number];

const began = performance.now();
await Promise.all(Array.from({ length: clients }, (_, i) => download(i)));
console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000 }));

function download(i: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, path: `/${i}`, agent: false }, (response) => {
      let received = 0;
      response.on('data', (data: Buffer) => {
        received += data.length;
      });
      response.on('error', reject);
      response.on('end', () => {
        if (received === bytes) resolve();
        else reject(new Error(`client ${i} got ${received} of ${bytes} bytes`));
      });
    });
    request.on('error', reject);
  });
}
