// A channel with history: what was missed comes back by itself, and what was said before can be read.
// Run it beside `make run`: node examples/history.mjs
import { existsSync, readFileSync } from 'node:fs';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws'; // Node 20 has no WebSocket of its own; browsers need no such line

if (!existsSync('.tidewire/dev.json')) {
  console.error('no mesh runs here: start `make run` first, and run this from the same folder');
  process.exit(1);
}
const dev = JSON.parse(readFileSync('.tidewire/dev.json'));
const [here, there] = [0, 1].map((index) => {
  const url = dev.edges[index].replace('http', 'ws') + '/connection/websocket';
  return new Centrifuge(url, { token: dev.token, websocket: WebSocket });
});
const channel = 'chat:history-example';

// Recovery: the SDK remembers offset and epoch, and asks for what it missed whenever it is back.
const reader = here.newSubscription(channel, { recoverable: true, positioned: true });
reader.on('publication', ({ data, offset }) => console.log(`heard #${offset}: ${data.text}`));
reader.on('subscribed', ({ wasRecovering, recovered }) => {
  if (wasRecovering) console.log(recovered ? 'nothing is missing' : 'something is missing: load the page anew');
});
const writer = there.newSubscription(channel);
for (const each of [reader, writer]) each.subscribe();
for (const each of [here, there]) each.connect();
await Promise.all([reader.ready(), writer.ready()]);

here.disconnect(); // as a train does that enters a tunnel
for (const number of [1, 2, 3]) await writer.publish({ text: `missed ${number}` }); // resolved: stored, for all
here.connect();
await reader.ready();

// History: the newest first, or the oldest after a position; `limit: 0` asks for the position only.
const newest = await reader.history({ limit: 2, reverse: true });
console.log('newest:', newest.publications.map(({ data }) => data.text).join(', '));
const since = { offset: newest.offset - 1, epoch: newest.epoch };
const { publications } = await reader.history({ limit: 10, since });
console.log(`since #${since.offset}:`, publications.map(({ data }) => data.text).join(', '));

// A publication that may be repeated safely, whatever the network does to its answer.
const once = { channel, data: { text: 'once' }, idempotency_key: `order-${Date.now()}` };
console.log('first:', (await there.rpc('tw.publish', once)).data, 'again:', (await there.rpc('tw.publish', once)).data);
for (const each of [here, there]) each.disconnect();
