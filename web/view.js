// What the page shows. Everything that comes from outside goes through textContent: nothing is ever parsed as HTML.

const SHOWN = 200; // items; older ones leave the list
const NEAR_END = 40; // px
const waiting = []; // items that are not on the page yet

/** Returns the element with this id. */
export const $ = (id) => document.getElementById(id);

/** Milliseconds for people. */
export function milliseconds(value) {
  if (value < 0) return "clocks differ";
  if (value < 1) return "< 1 ms";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/** The last values of a measurement: remembers fifty, tells the median. */
export class Samples {
  #values = [];

  add(value) {
    this.#values.push(value);
    if (this.#values.length > 50) this.#values.shift();
  }

  get summary() {
    const sorted = [...this.#values].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    return sorted.length > 1 ? `median ${milliseconds(median)}` : "";
  }
}

/** Show a measurement and what its samples say, in the elements `id` and `id`-more. */
export function showSample(id, samples, value) {
  samples.add(value);
  $(id).textContent = milliseconds(value);
  $(`${id}-more`).textContent = samples.summary;
}

/** Show the connection's state with its code and reason. */
export function showState({ state, code, reason }) {
  $("state").textContent = state;
  $("state").dataset.state = state;
  $("reason").textContent = reason ? (code ? `${code}: ${reason}` : reason) : `since ${clock(new Date())}`;
  $("toggle").textContent = state === "disconnected" ? "Connect" : "Disconnect";
}

/** Show which edge serves this page's connection; an empty node is one that nobody knows the name of. */
export function showNode(node, edge) {
  $("node").textContent = node || "–";
  $("node-address").textContent = edge ? new URL(edge).host : "";
}

/** Show the subscription's state, and whether messages can be sent. */
export function showSubscription(channel, { state, code, reason }) {
  const words = { subscribed: "subscribed", subscribing: "subscribing …", unsubscribed: "not subscribed" };
  $("chat-title").textContent = channel;
  $("subscription").textContent = words[state] + (state === "unsubscribed" && code ? ` (${code}: ${reason})` : "");
  $("subscription").dataset.state = state;
  $("send").disabled = state !== "subscribed";
}

/** Show where the channel stands: the offset of its last publication, and the epoch that offsets belong to. */
export function showPosition({ offset, epoch }) {
  $("offset").textContent = epoch ? String(offset) : "–";
  $("epoch").textContent = epoch ? `epoch ${epoch}` : "no history";
}

/** Show who is in the channel, users with several clients once and one's `own` first; null: nothing is known. */
export function showPeople(list, own) {
  $("who").hidden = list === null;
  if (list === null) return;
  const users = new Map(); // user -> how many clients
  for (const { user } of list) users.set(user, (users.get(user) ?? 0) + 1);
  const me = list.find(({ client }) => client === own)?.user;
  const sorted = [...users].sort(([a], [b]) => (b === me) - (a === me) || a.localeCompare(b));
  const connections = list.length > users.size ? `, ${list.length} connections` : "";
  $("who-count").textContent = `${users.size} ${users.size === 1 ? "user" : "users"}${connections}`;
  $("people").replaceChildren(...sorted.slice(0, SHOWN).map(([user, count]) => person(user, count, user === me)));
}

function person(user, count, own) {
  const item = element("li", own ? "person own" : "person");
  const avatar = element("span", "avatar", [...user][0]?.toUpperCase() ?? "?");
  avatar.ariaHidden = "true";
  avatar.style.setProperty("--hue", String(hue(user)));
  item.append(avatar, element("span", "name", user || "no name"));
  if (own) item.append(element("small", "", "you"));
  if (count > 1) item.append(element("small", "times", `× ${count}`));
  return item;
}

/** Show how many presses were taken and refused, and what was said of the last one. */
export function showPresses({ taken, refused, answer }) {
  $("presses").textContent = taken;
  $("refusals").textContent = refused;
  $("press-answer").textContent = answer;
}

/** Show a problem above everything, or take it away with an empty sentence. */
export function showProblem(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = !sentence;
}

/** Offer the edges, with the names that are known, and keep the choice. */
export function showEdges(edges, names, chosen) {
  const options = edges.map((edge) => {
    const option = element("option", "", label(edge, names));
    option.value = edge;
    option.selected = edge === chosen;
    return option;
  });
  $("edge").replaceChildren(...options);
}

/** Point the link at the page of another edge, for the same channel. */
export function showSecondTab(edge, names, channel) {
  $("second-tab").hidden = !edge;
  if (!edge) return;
  $("second-tab").href = `${edge}/#${encodeURIComponent(channel)}`;
  $("second-tab").textContent = `Open a second tab on ${names.get(edge) || new URL(edge).host}`;
}

/** Add a message: who, what, from which edge to which, how long it took (null: it does not say), its offset, if any. */
export function addMessage({ who, own, text, from, to, latency, offset }) {
  const item = element("li", own ? "message own" : "message");
  const avatar = element("span", "avatar", [...who][0]?.toUpperCase() ?? "?");
  avatar.ariaHidden = "true";
  avatar.style.setProperty("--hue", String(hue(who)));
  const body = element("div", "body");
  const head = element("p", "head");
  head.append(element("b", "who", who || "no name"), " ", element("time", "", clock(new Date())));
  const route = element("p", from === to ? "route" : "route crossed");
  route.append(element("span", "from", from || "NATS"), arrow(), element("span", "to", to));
  if (latency !== null) route.append(element("span", "latency", milliseconds(latency)));
  if (offset) route.append(element("span", "offset", `#${offset}`));
  body.append(head, element("p", "text", text), route);
  item.append(avatar, body);
  add(item);
}

/** Add a line about the connection between the messages. */
export function addEvent(text, kind) {
  const item = element("li", `event ${kind}`);
  item.append(element("span", "", text), " ", element("time", "", clock(new Date())));
  add(item);
}

/** Put an item on the page after the work at hand, together with all that come meanwhile: one layout for a burst. */
function add(item) {
  if (waiting.length === 0) setTimeout(addWaiting);
  waiting.push(item);
  if (waiting.length > SHOWN) waiting.shift();
}

function addWaiting() {
  const list = $("messages");
  const following = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END;
  list.append(...waiting.splice(0));
  while (list.children.length > SHOWN) list.firstElementChild.remove();
  $("empty").hidden = list.querySelector(".message") !== null;
  if (following) list.scrollTop = list.scrollHeight;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function arrow() {
  const made = element("span", "arrow", "→");
  made.setAttribute("role", "img");
  made.ariaLabel = "to";
  return made;
}

function label(edge, names) {
  const { host } = new URL(edge);
  const name = names.get(edge);
  return name ? `${name} (${host})` : host;
}

function clock(date) {
  return date.toLocaleTimeString([], { hour12: false });
}

/** A colour for a name, the same in every tab. */
function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}
