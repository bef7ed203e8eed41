// The mesh as a page sees it: which edges there are, tokens for them, and one connection through the Centrifuge SDK.

const INFO_TIMEOUT = 3000; // ms
const RECONNECT = { minReconnectDelay: 200, maxReconnectDelay: 3000 }; // ms; a person watches, so try often

/** Returns {node, edges, tokens} of this page's edge; edges are base URLs with this page's own first. */
export async function discover() {
  const own = location.origin;
  const info = (await edgeInfo(own)) ?? { node: "", edges: [], tokens: false };
  const others = info.edges.filter((edge) => edge !== own);
  return { ...info, edges: [own, ...others] };
}

/** Returns what an edge says about itself, or null where it does not answer. */
export async function edgeInfo(edge) {
  try {
    const response = await fetch(`${edge}/dev/info`, { signal: AbortSignal.timeout(INFO_TIMEOUT) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** Returns a fresh token for `user` from this page's edge; throws with the edge's own sentence. */
export async function issueToken(user) {
  const body = JSON.stringify({ user });
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("dev/token", { method: "POST", headers, body }).catch(() => null);
  if (!response) throw new Error("no token: the edge that served this page does not answer");
  if (!response.ok) throw new Error(`no token: ${(await response.text()).trim()}`);
  return (await response.json()).token;
}

/** The page's way to the edges. While it is cut, open sockets have ended and new ones fail, as without a network. */
export class Cable {
  #sockets = new Set();
  cut = false;

  /** What the SDK makes its sockets with. */
  get Socket() {
    const cable = this;
    return class extends WebSocket {
      constructor(url, protocols) {
        super(cable.cut ? new URL("/nowhere", url) : url, protocols); // there is nothing at that path
        cable.#sockets.add(this);
        this.addEventListener("close", () => cable.#sockets.delete(this));
      }
    };
  }

  /** Cut it, or mend it. */
  toggle() {
    this.cut = !this.cut;
    if (this.cut) for (const socket of this.#sockets) socket.close();
  }
}

/**
 * One connection of one user to one edge, with one subscription.
 *
 * `events` has state({state, code, reason}), subscription({state, code, reason, ...}), which for `subscribed` says where it
 * stands (streamPosition) and whether what was missed has come (wasRecovering, recovered), publication(context), join(info)
 * and leave(info) of {client, user}, and problem(sentence); what the SDK repeats by itself (reconnect, resubscribe, token refresh) comes as states.
 */
export class Link {
  #client;
  #subscription = null;
  #events;
  id = "";

  constructor(edge, token, getToken, events, Socket) {
    const url = `${edge.replace(/^http/, "ws")}/connection/websocket`;
    this.#events = events;
    this.#client = new window.Centrifuge(url, {
      token,
      getToken,
      name: "tidewire-start-page",
      websocket: Socket,
      ...RECONNECT,
    });
    this.#client.on("connecting", (context) => events.state({ state: "connecting", ...context }));
    this.#client.on("disconnected", (context) => events.state({ state: "disconnected", ...context }));
    this.#client.on("connected", (context) => {
      this.id = context.client;
      events.state({ state: "connected", code: 0, reason: "" });
    });
    this.#client.on("error", ({ type, error }) => events.problem(type, error));
  }

  get channel() {
    return this.#subscription?.channel ?? "";
  }

  get subscribed() {
    return this.#subscription?.state === "subscribed";
  }

  connect() {
    this.#client.connect();
  }

  disconnect() {
    this.#client.disconnect();
  }

  /** Leave the present channel, if any, for `channel`. */
  follow(channel) {
    if (channel === this.channel) return;
    if (this.#subscription) {
      this.#subscription.removeAllListeners();
      this.#client.removeSubscription(this.#subscription);
    }
    const events = this.#events;
    const subscription = this.#client.newSubscription(channel, { joinLeave: true }); // where the namespace tells them
    subscription.on("subscribing", (context) => events.subscription({ state: "subscribing", ...context }));
    subscription.on("subscribed", (context) =>
      events.subscription({ state: "subscribed", code: 0, reason: "", ...context }),
    );
    subscription.on("unsubscribed", (context) => events.subscription({ state: "unsubscribed", ...context }));
    subscription.on("error", ({ type, error }) => events.problem(type, error));
    subscription.on("publication", (context) => events.publication(context));
    subscription.on("join", ({ info }) => events.join(info));
    subscription.on("leave", ({ info }) => events.leave(info));
    this.#subscription = subscription;
    subscription.subscribe();
  }

  /** Resolves to {clients}, who is in the channel by client id; rejects where one may not know. */
  who() {
    return this.#subscription.presence();
  }

  /** Publish; resolves to the milliseconds until the edge acknowledged it, rejects with the SDK's {code, message}. */
  async publish(data) {
    const began = performance.now();
    await this.#subscription.publish(data);
    return performance.now() - began;
  }

  /** End the connection for good: no event comes from it any more. */
  close() {
    this.#client.removeAllListeners();
    this.#subscription?.removeAllListeners();
    this.#client.on("error", () => {}); // the emitter throws an `error` that nobody hears
    this.#client.disconnect();
  }
}
