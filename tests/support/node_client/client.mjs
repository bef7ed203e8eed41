// The official JavaScript SDK, driven from pytest: one JSON object a line in, one a line out. The argument is the name
// of the SDK's package, since several versions of it are installed side by side.
//
//   in:  {"call": 7, "op": "publish", "client": "c1", ...}      what the driver wants; see `operations`
//   out: {"call": 7, "result": ...} or {"call": 7, "error": {"code", "message", "temporary"}}
//   out: {"client": "c1", "event": "connected", ...}            what the SDK reported, see `watch*`
//
// Payloads are JSON values in both formats; with Protobuf, whose payloads are bytes, they cross the wire as JSON text.

import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const sdk = process.argv[2];
// Each build has an UnauthorizedError of its own and takes the other's for a failure that will pass.
const builds = { json: await import(sdk), protobuf: await import(`${sdk}/build/protobuf`) };

// Up to 5.7 the SDK swaps publications when several frames reach it in one turn of the event loop. In a browser they never
// do, as each message is a task of its own; `ws` keeps to that only on request.
class OneEventATurn extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { allowSynchronousEvents: false });
  }
}
const Socket = sdk === 'centrifuge' ? WebSocket : OneEventATurn;

const clients = new Map(); // id -> {sdk, format, subscriptions, streams}

const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const plainError = (error) => ({
  code: error?.code ?? 0,
  message: error?.message ?? String(error),
  temporary: error?.temporary ?? false,
});

const encode = (client, value) =>
  client.format === 'protobuf' ? new TextEncoder().encode(JSON.stringify(value)) : value;
const decode = (client, value) => {
  if (client.format !== 'protobuf' || value === undefined || value === null) return value ?? null;
  return value.length ? JSON.parse(new TextDecoder().decode(value)) : null;
};
const plainInfo = (client, info) =>
  info && {
    user: info.user,
    client: info.client,
    conn_info: decode(client, info.connInfo),
    chan_info: decode(client, info.chanInfo),
  };

const plainPublication = (client, ctx) => ({
  channel: ctx.channel,
  data: decode(client, ctx.data),
  info: plainInfo(client, ctx.info) ?? null,
  tags: ctx.tags ?? {},
  offset: Number(String(ctx.offset ?? 0)), // 5.7 gives a Long object with Protobuf
});

// A callback that hands out the given tokens one after the other; each request is an event. When there is none left it
// fails, as a backend that is down would. A token that is null is a user who may not.
const provider = (id, format, kind, tokens, extra = {}) => {
  const left = [...tokens];
  return async () => {
    write({ client: id, event: kind, left: left.length, ...extra });
    const token = left.shift();
    if (token === undefined) throw new Error('no token left');
    if (token === null) throw new builds[format].UnauthorizedError();
    return token;
  };
};

function watchClient(id, client) {
  const report = (event, fields) => write({ client: id, event, ...fields });
  client.sdk.on('connecting', (ctx) => report('connecting', { code: ctx.code, reason: ctx.reason }));
  client.sdk.on('connected', (ctx) => report('connected', { connection: ctx.client }));
  client.sdk.on('disconnected', (ctx) => report('disconnected', { code: ctx.code, reason: ctx.reason }));
  client.sdk.on('error', (ctx) => report('error', { type: ctx.type, ...plainError(ctx.error) }));
  // Of the subscriptions that the server makes.
  client.sdk.on('subscribing', ({ channel }) => report('server_subscribing', { channel }));
  client.sdk.on('subscribed', ({ channel, data }) =>
    report('server_subscribed', { channel, data: decode(client, data) }),
  );
  client.sdk.on('unsubscribed', ({ channel }) => report('server_unsubscribed', { channel }));
  client.sdk.on('publication', (ctx) => report('server_publication', plainPublication(client, ctx)));
  for (const change of ['join', 'leave'])
    client.sdk.on(change, ({ channel, info }) =>
      report(`server_${change}`, { channel, info: plainInfo(client, info) }),
    );
}

const equals = ([key, val]) => ({ key, cmp: 'eq', val });

function watchSubscription(id, client, subscription, channel, quiet) {
  const report = (event, fields) => write({ client: id, event, channel, ...fields });
  subscription.on('subscribing', (ctx) => report('subscribing', { code: ctx.code, reason: ctx.reason }));
  subscription.on('subscribed', (ctx) =>
    report('subscribed', {
      recovered: ctx.recovered ?? false,
      was_recovering: ctx.wasRecovering ?? false,
      epoch: ctx.streamPosition?.epoch ?? '',
      offset: Number(String(ctx.streamPosition?.offset ?? 0)),
    }),
  );
  subscription.on('unsubscribed', (ctx) => report('unsubscribed', { code: ctx.code, reason: ctx.reason }));
  subscription.on('error', (ctx) => report('subscription_error', { type: ctx.type, ...plainError(ctx.error) }));
  for (const change of ['join', 'leave'])
    subscription.on(change, ({ info }) => report(change, { info: plainInfo(client, info) }));
  if (quiet) return;
  subscription.on('publication', (ctx) => report('publication', plainPublication(client, ctx)));
}

// Publishes until stopped, at most `window` (1) at a time without an answer, with a pause after each `burst` (1) of them;
// what became of each is an event.
async function stream(id, client, { channel, publisher, limit, pause, window = 1, burst = 1 }) {
  const key = `${publisher} ${channel}`;
  const waiting = new Set();
  const publish = async (sequence) => {
    const outcome = { client: id, event: 'published', channel, publisher, sequence };
    try {
      await client.sdk.publish(channel, encode(client, { publisher, sequence }));
      write({ ...outcome, code: 0, message: '', temporary: false });
    } catch (error) {
      write({ ...outcome, ...plainError(error) });
    }
  };
  client.streams.add(key);
  for (let sequence = 1; sequence <= (limit ?? Infinity) && client.streams.has(key); sequence += 1) {
    const outcome = publish(sequence);
    waiting.add(outcome);
    void outcome.then(() => waiting.delete(outcome));
    while (waiting.size >= window) await Promise.race(waiting);
    if (pause && sequence % burst === 0) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  await Promise.all(waiting);
  client.streams.delete(key);
  write({ client: id, event: 'stream_ended', channel, publisher });
}

const operations = {
  create({ client: id, url, format, token, tokens, options }) {
    const { Centrifuge } = builds[format];
    const settings = { websocket: Socket, ...options };
    if (token) settings.token = token;
    if (tokens) settings.getToken = provider(id, format, 'token_wanted', tokens);
    const client = { sdk: new Centrifuge(url, settings), format, subscriptions: new Map(), streams: new Set() };
    clients.set(id, client);
    watchClient(id, client);
  },
  connect: ({ client }) => clients.get(client).sdk.connect(),
  disconnect: ({ client }) => clients.get(client).sdk.disconnect(),
  subscribe({ client: id, channel, token, tokens, tags, delta, quiet, recoverable, join_leave }) {
    const client = clients.get(id);
    let subscription = client.subscriptions.get(channel);
    if (subscription === undefined) {
      const settings = {};
      if (tags) settings.tagsFilter = { op: 'and', nodes: Object.entries(tags).map(equals) };
      if (delta) settings.delta = 'fossil';
      if (recoverable) settings.recoverable = settings.positioned = true;
      if (join_leave) settings.joinLeave = true;
      if (token) settings.token = token;
      if (tokens) settings.getToken = provider(id, client.format, 'subscription_token_wanted', tokens, { channel });
      subscription = client.sdk.newSubscription(channel, settings);
      client.subscriptions.set(channel, subscription);
      watchSubscription(id, client, subscription, channel, quiet);
    }
    subscription.subscribe();
  },
  unsubscribe: ({ client, channel }) => clients.get(client).subscriptions.get(channel).unsubscribe(),
  async publish({ client: id, channel, data }) {
    const client = clients.get(id);
    await client.sdk.publish(channel, encode(client, data));
  },
  async rpc({ client: id, method, data }) {
    const client = clients.get(id);
    return decode(client, (await client.sdk.rpc(method, encode(client, data))).data);
  },
  async send({ client: id, data }) {
    const client = clients.get(id);
    await client.sdk.send(encode(client, data));
  },
  history: async ({ client, channel }) => void (await clients.get(client).sdk.history(channel, { limit: 1 })),
  async read_history({ client: id, channel, since, limit }) {
    const client = clients.get(id);
    const { epoch, offset, publications } = await client.sdk.history(channel, { since, limit });
    const shown = publications.map((each) => plainPublication(client, { ...each, channel }));
    return { epoch, offset: Number(String(offset ?? 0)), publications: shown };
  },
  async who({ client: id, channel }) {
    const client = clients.get(id);
    const { clients: found } = await client.sdk.presence(channel);
    return Object.fromEntries(Object.entries(found).map(([key, info]) => [key, plainInfo(client, info)]));
  },
  async how_many({ client, channel }) {
    const { numClients, numUsers } = await clients.get(client).sdk.presenceStats(channel);
    return [numClients, numUsers];
  },
  presence: async ({ client, channel }) => void (await clients.get(client).sdk.presence(channel)),
  presence_stats: async ({ client, channel }) => void (await clients.get(client).sdk.presenceStats(channel)),
  stream({ client: id, ...wanted }) {
    void stream(id, clients.get(id), wanted);
  },
  stop_streams: ({ client }) => clients.get(client).streams.clear(),
};

async function perform(request) {
  try {
    const result = await operations[request.op](request);
    write({ call: request.call, result: result ?? null });
  } catch (error) {
    write({ call: request.call, error: plainError(error) });
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => void perform(JSON.parse(line)))
  .on('close', () => process.exit(0)); // the test is over
