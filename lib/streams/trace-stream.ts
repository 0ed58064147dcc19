/** The events of the channel `p2pdma:trace` as a stream of objects. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Readable } from 'node:stream';
import { TRACE_CHANNEL } from '../base/trace.js';

/** If nobody reads, this number of events waits; then the oldest is dropped. */
const TRACE_BACKLOG = 100_000;

export function traceStream(): Readable {
  const waiting: unknown[] = [];
  let wanted = false;
  const listen = (event: unknown) => {
    if (wanted) wanted = stream.push(event);
    else {
      waiting.push(event);
      if (waiting.length > TRACE_BACKLOG) waiting.shift();
    }
  };
  const stream = new Readable({
    objectMode: true,
    highWaterMark: 1024,
    read() {
      wanted = true;
      while (wanted && waiting.length > 0) wanted = stream.push(waiting.shift());
    },
    destroy(error, callback) {
      unsubscribe(TRACE_CHANNEL, listen);
      callback(error);
    },
  });
  subscribe(TRACE_CHANNEL, listen);
  return stream;
}
