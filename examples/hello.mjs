// A first program: say hello in chat:lobby, and hear it come back through NATS.
// Run it beside `make run`: node examples/hello.mjs
import { existsSync, readFileSync } from 'node:fs';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws'; // Node 20 has no WebSocket of its own; browsers need no such line

if (!existsSync('.tidewire/dev.json')) {
  console.error('no mesh runs here: start `make run` first, and run this from the same folder');
  process.exit(1);
}
const dev = JSON.parse(readFileSync('.tidewire/dev.json'));
const url = dev.edges[0].replace('http', 'ws') + '/connection/websocket';

const client = new Centrifuge(url, { token: dev.token, websocket: WebSocket });
client.on('connected', (context) => console.log('connected as client', context.client));
client.on('disconnected', (context) => console.log('disconnected:', context.reason));

const lobby = client.newSubscription('chat:lobby');
lobby.on('publication', ({ data, info }) => {
  console.log(`${info?.user}: ${data.text}`);
  client.disconnect();
});
lobby.on('subscribed', () => lobby.publish({ text: 'Hello from JavaScript' }));
lobby.subscribe();
client.connect();
