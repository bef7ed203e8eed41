// The start page: a small client of the mesh, on the official SDK. Read mesh.js for the connection, view.js for the page.

import { Cable, Link, discover, edgeInfo, issueToken } from "./mesh.js";
import { People } from "./people.js";
import * as view from "./view.js";

const { $ } = view;
const FIRST_CHANNEL = "chat:lobby";
const INVALID_TOKEN = 3500; // the code of the protocol: the mesh has another key by now
const NAME_KEY = "tidewire.user";
const MOODS = ["brisk", "calm", "clever", "gentle", "lucky", "merry", "quiet", "salty", "swift", "witty"];
const ANIMALS = ["crab", "gull", "heron", "orca", "otter", "puffin", "seal", "tern", "turtle", "walrus"];

const names = new Map(); // base URL of an edge -> its node name
const tokens = new Map(); // user -> the last token, so that changing the edge needs no new one
const latencies = new view.Samples();
const acks = new view.Samples();
const cable = new Cable();
const people = new People((list) => view.showPeople(list, link?.id));
const counts = { received: 0, sent: 0, reconnects: 0 };

let mesh; // what discover() found
let link = null;
let chosen = { user: "", edge: "", channel: "" };
let lostAt = 0; // performance.now() of the moment a connection was lost; 0 = none is missed
let catchingUp = false; // what comes now was missed
let connectedBefore = false;
let position = { offset: 0, epoch: "" }; // of the channel, where it has history

async function start() {
  $("user").value = sessionStorage.getItem(NAME_KEY) ?? `${pick(MOODS)}-${pick(ANIMALS)}`;
  $("channel").value = channelOfAddress() || FIRST_CHANNEL;
  $("settings").addEventListener("submit", handle(apply));
  $("composer").addEventListener("submit", handle(send));
  $("toggle").addEventListener("click", toggle);
  $("cable").addEventListener("click", cutOrMend);
  if (!window.Centrifuge) {
    view.showProblem("The Centrifuge SDK is missing (node_modules/centrifuge): run `make setup`, then reload this page.");
    return;
  }
  mesh = await discover();
  names.set(location.origin, mesh.node);
  $("token-field").hidden = mesh.tokens;
  view.showEdges(mesh.edges, names, location.origin);
  if (mesh.tokens) apply();
  await Promise.all(mesh.edges.slice(1).map(learnName));
}

/** Take over what the settings say: a new connection for another user, edge or token, else only another channel. */
function apply() {
  if (!mesh) return;
  const wanted = { user: $("user").value.trim(), edge: $("edge").value, channel: $("channel").value.trim() };
  if (!wanted.user || !wanted.channel) return;
  const same = link && wanted.user === chosen.user && wanted.edge === chosen.edge && mesh.tokens;
  chosen = wanted;
  sessionStorage.setItem(NAME_KEY, chosen.user);
  history.replaceState(null, "", `#${encodeURIComponent(chosen.channel)}`);
  showSecondTab();
  if (!same) open();
  link.follow(chosen.channel);
  link.connect();
}

function open() {
  link?.close();
  connectedBefore = false;
  lostAt = 0;
  const { user, edge } = chosen;
  view.showNode(names.get(edge), edge);
  const getToken = () => tokenFor(user);
  const join = (info) => people.join(info);
  const leave = (info) => people.leave(info);
  const events = { state, subscription, publication, join, leave, problem };
  link = new Link(edge, tokens.get(user) ?? "", getToken, events, cable.Socket);
}

/** Let the page lose its network, or find it again; the SDK does the rest. */
function cutOrMend() {
  cable.toggle();
  $("cable").textContent = cable.cut ? "Mend the network" : "Cut the network";
  view.addEvent(cable.cut ? "the network is cut: write something in another tab" : "the network is back", "wait");
}

function toggle() {
  if ($("state").dataset.state !== "disconnected") {
    link.disconnect();
    return;
  }
  link?.close(); // begin anew, with what the settings say now
  link = null;
  apply();
}

async function tokenFor(user) {
  if (!mesh.tokens) {
    const pasted = $("token").value.trim();
    if (!pasted) throw new window.Centrifuge.UnauthorizedError("no token");
    return pasted;
  }
  const token = await issueToken(user);
  tokens.set(user, token);
  return token;
}

// What the connection reports.

function state(change) {
  view.showState(change);
  if (change.state === "connected") connected();
  else lost(change);
}

function connected() {
  view.showProblem("");
  learnName(chosen.edge);
  if (lostAt) {
    const away = performance.now() - lostAt;
    counts.reconnects += 1;
    $("reconnects").textContent = counts.reconnects;
    $("reconnects-more").textContent = `last took ${view.milliseconds(away)}`;
    view.addEvent(`connected again after ${view.milliseconds(away)}`, "good");
  } else {
    view.addEvent(`connected to ${edgeName()}`, "good");
  }
  connectedBefore = true;
  lostAt = 0;
}

function lost({ state, code, reason }) {
  if (code === INVALID_TOKEN) tokens.delete(chosen.user);
  if (state === "disconnected") lostAt = 0;
  else if (connectedBefore && !lostAt && code) lostAt = performance.now();
  if (state === "disconnected") view.addEvent(`disconnected (${code}: ${reason})`, "bad");
  else if (connectedBefore) view.addEvent(`connection lost (${code}: ${reason}), connecting again`, "wait");
}

function subscription(change) {
  view.showSubscription(chosen.channel, change);
  if (change.state === "subscribed") {
    placed(change);
    people.ask(() => link.who());
  } else {
    people.forget();
  }
  if (change.state === "unsubscribed" && change.code) {
    view.addEvent(`${chosen.channel}: ${change.code} ${change.reason}`, "bad");
  }
}

/** The channel says where it stands, and whether what was missed has come (it follows as publications). */
function placed({ streamPosition, wasRecovering, recovered }) {
  if (wasRecovering) {
    catchingUp = true;
    queueMicrotask(() => (catchingUp = false)); // the SDK hands over what was missed right behind this event
    if (recovered) view.addEvent(`nothing is missing since offset ${position.offset}`, "good");
    else view.addEvent(`what came since offset ${position.offset} is not known`, "bad");
  }
  position = streamPosition ?? { offset: 0, epoch: "" };
  view.showPosition(position);
}

function publication({ data, info, offset }) {
  counts.received += 1;
  if (offset) view.showPosition((position = { ...position, offset }));
  $("received").textContent = counts.received;
  const message = readMessage(data);
  if (message.latency !== null && !catchingUp) view.showSample("latency", latencies, message.latency);
  view.addMessage({ ...message, offset, who: info?.user ?? "", own: info?.client === link.id, to: edgeName() });
}

function problem(type, error) {
  if (type === "transport" && !connectedBefore) {
    const { host } = new URL(chosen.edge);
    view.showProblem(
      `No connection to ${host}: it is down, or it does not admit pages of ${location.origin} ` +
        "(client.allowed_origins). Trying again.",
    );
  } else if (type === "connectToken" || type === "refreshToken") {
    view.showProblem(error.message.replace(/^Error: /, ""));
  }
}

// Messages.

async function send() {
  const text = $("text").value.trim();
  if (!text || !link?.subscribed) return;
  $("text").value = "";
  await painted();
  try {
    const took = await link.publish({ text, sent: Date.now(), edge: edgeName() });
    counts.sent += 1;
    $("sent").textContent = counts.sent;
    view.showSample("ack", acks, took);
  } catch (error) {
    view.addEvent(`not sent (${error.code}: ${error.message}): ${text}`, "bad");
    $("text").value ||= text;
  }
}

/** Anyone may publish anything: what is not one of our messages is shown as it came. */
function readMessage(data) {
  const ours = data !== null && typeof data === "object" && typeof data.text === "string";
  return {
    text: ours ? data.text : JSON.stringify(data),
    from: ours && typeof data.edge === "string" ? data.edge : "",
    latency: ours && Number.isFinite(data.sent) ? Date.now() - data.sent : null,
  };
}

// Edges.

async function learnName(edge) {
  const node = (await edgeInfo(edge))?.node;
  if (!node || names.get(edge) === node) return;
  names.set(edge, node);
  view.showEdges(mesh.edges, names, $("edge").value);
  if (edge === chosen.edge) view.showNode(node, edge);
  showSecondTab();
}

function showSecondTab() {
  const other = mesh.edges.find((edge) => edge !== chosen.edge);
  view.showSecondTab(other, names, chosen.channel || FIRST_CHANNEL);
}

function edgeName() {
  return names.get(chosen.edge) || new URL(chosen.edge).host;
}

// Small things.

/** Browsers hold work back until they have painted after a key press; that is not the mesh's latency. */
function painted() {
  return new Promise((resolve) => setTimeout(resolve));
}

function channelOfAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function handle(action) {
  return (event) => {
    event.preventDefault();
    action();
  };
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

start();
