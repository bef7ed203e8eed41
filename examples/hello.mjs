// A first program: say hello in chat:lobby, and hear it come back through NATS.
// Run it beside `make run`: node examples/hello.mjs
import { readFileSync } from 'node:fs';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws'; // Node 20 has no WebSocket of its own; browsers need no such line

const dev = JSON.parse(readFileSync('.tidewire/dev.json'));
const url = dev.edges[0].replace('http', 'ws') + '/connection/websocket';

const client = new Centrifuge(url, { token: dev.token, websocket: WebSocket });
client.on('connected', (context) => console.log('connected as client', context.client));
client.on('disconnected', (context) => console.log('disconnected:', context.reason));

const lobby = client.newSubscription('chat:lobby');
lobby.on('publication', ({ data, info }) => console.log(`${info?.user}: ${data.text}`));
lobby.on('subscribed', async () => {
  await lobby.publish({ text: 'Hello from JavaScript' }); // acknowledged, and by now heard
  client.disconnect();
});
lobby.subscribe();
client.connect();
