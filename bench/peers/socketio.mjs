// Socket.IO with its Redis adapter, as its documentation shows it: one process, WebSocket only.
// Usage: node socketio.mjs REDIS_URL; prints {"port":N}. No tokens, no checks.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

// Under load an answer of Redis may wait for longer than the client's 5 s, and the adapter does not catch that.
const publisher = createClient({ url: process.argv[2], commandOptions: { timeout: 120_000 } });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  serveClient: false,
  transports: ["websocket"],
});

io.on("connection", (socket) => {
  socket.on("subscribe", async (channel, acknowledge) => {
    await socket.join(channel);
    acknowledge();
  });
  socket.on("publish", (channel, data, acknowledge) => {
    io.to(channel).emit("publication", data);
    acknowledge();
  });
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(JSON.stringify({ port: http.address().port }));
});
