// @ts-check
/// <reference lib="dom" />
/**
 * The page: joins rooms through `connection.js`, shows them through `log.js`, and looks after the
 * join dialog, the roster, the status and the composer.
 *
 * @module
 */

import { Connection } from "./connection.js";
import { avatar, element, Log } from "./log.js";

/** @typedef {import("./connection.js").ConnectionState} ConnectionState */
/** @typedef {import("./connection.js").Frame} Frame */

const DEFAULT_ROOM = "lobby";
/** The server takes this much, counted in UTF-8. */
const MAX_MESSAGE_BYTES = 4096;
/** From here on the composer says how much is left. */
const COUNT_FROM_BYTES = 3600;
/** When no replayed message came for this long, there are no more. */
const SETTLED_MS = 250;
/** How long a passing remark stays. */
const TOAST_MS = 2500;

const WELCOME = "Join the conversation";
const LEFT_BEHIND = "Your last message may not have been sent. It is back in the box.";

const page = {
  status: get("status", HTMLElement),
  statusWords: get("status-words", HTMLElement),
  countdown: get("countdown", HTMLElement),
  roomName: get("room-name", HTMLElement),
  toast: get("toast", HTMLElement),

  log: get("log", HTMLElement),
  empty: get("empty", HTMLElement),
  newer: get("newer", HTMLButtonElement),

  people: get("people", HTMLElement),
  peopleList: get("people-list", HTMLElement),
  peopleCounts: [get("people-count", HTMLElement), get("people-button-count", HTMLElement)],

  composer: get("composer", HTMLFormElement),
  text: get("text", HTMLTextAreaElement),
  send: get("send", HTMLButtonElement),
  counter: get("counter", HTMLElement),
  trouble: get("trouble", HTMLElement),
  troubleWords: get("trouble-words", HTMLElement),
  retry: get("retry", HTMLButtonElement),

  join: get("join", HTMLDialogElement),
  joinForm: get("join-form", HTMLFormElement),
  joinTitle: get("join-title", HTMLElement),
  joinButton: get("join-button", HTMLButtonElement),
  joinError: get("join-error", HTMLElement),
  name: get("name", HTMLInputElement),
  nameError: get("name-error", HTMLElement),
  room: get("room", HTMLInputElement),
  roomError: get("room-error", HTMLElement),
};

const log = new Log({
  scroller: page.log,
  rows: get("rows", HTMLElement),
  onFollow: (following) => following && (page.newer.hidden = true),
});
const utf8 = new TextEncoder();

/** @type {Connection | undefined} */
let connection;
/** Who is in the room. @type {Set<string>} */
let people = new Set();
/** Sent, and not yet come back to us as the room's messages. @type {string[]} */
let underway = [];
/** Put back into the composer after a loss, because nobody knows whether they arrived. @type {string[]} */
let putBack = [];
let unread = 0;
/** How often this connection has become live. From the second time on, what is replayed was missed. */
let arrivals = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let settling;
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticking;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let toasting;

// ---- Joining and leaving ---------------------------------------------------------------------

/** @param {{ rejoining?: boolean }} [how] */
function join({ rejoining = false } = {}) {
  connection?.close();
  clearTimeout(settling);
  const joined = new Connection({
    base: location.href,
    room: page.room.value,
    username: page.name.value,
    rejoining,
  });
  connection = joined;
  arrivals = 0;
  people = new Set();
  showPeople();
  log.reset(joined.username);
  page.empty.hidden = true;
  page.roomName.textContent = joined.room;
  joined.onState((state) => joined === connection && showState(state));
  joined.onFrame((frame) => joined === connection && receive(frame));
  joined.open();
}

function leave() {
  const room = connection?.room ?? DEFAULT_ROOM;
  connection?.close();
  remember("sessionStorage", "hubbub.joined", "");
  askToJoin(`You left ${room}`);
}

/** @param {string} title */
function askToJoin(title) {
  page.joinTitle.textContent = title;
  complain(undefined, "");
  if (page.people.matches(":popover-open")) page.people.hidePopover();
  if (!page.join.open) page.join.showModal();
  (page.name.value ? page.joinButton : page.name).focus();
}

/** The server has let us in: from now on the link and a reload lead back here. */
function arrived() {
  if (!connection || ++arrivals > 1) return;
  const { room, username } = connection;
  remember("localStorage", "hubbub.name", username);
  remember("sessionStorage", "hubbub.joined", JSON.stringify({ room, username }));
  const link = new URL(location.href);
  link.searchParams.set("room", room);
  history.replaceState(null, "", link);
  page.join.close();
  page.text.focus();
  showTitle();
}

/**
 * Says in the dialog why joining failed, at the field that can mend it.
 *
 * @param {{ reason: string, code: number }} refusal
 */
function showRefusal({ reason, code }) {
  // The server's sentences about names begin with which of the two they are about.
  const aboutRoom = code === 400 && reason.startsWith("The room");
  const aboutName = [400, 409, 4009].includes(code) && !aboutRoom;
  askToJoin(arrivals > 0 ? "You are no longer in the room" : WELCOME);
  complain(aboutName ? page.name : aboutRoom ? page.room : undefined, reason);
}

/**
 * @param {HTMLInputElement | undefined} field Nothing when no field is to blame.
 * @param {string} sentence
 */
function complain(field, sentence) {
  for (const [input, error] of joinFields()) {
    input.removeAttribute("aria-invalid");
    error.textContent = input === field ? sentence : "";
  }
  page.joinError.textContent = field ? "" : sentence;
  field?.setAttribute("aria-invalid", "true");
  field?.focus();
}

/** @returns {[HTMLInputElement, HTMLElement][]} */
function joinFields() {
  return [[page.name, page.nameError], [page.room, page.roomError]];
}

// ---- Status ----------------------------------------------------------------------------------

/** @param {ConnectionState} state */
function showState(state) {
  clearInterval(ticking);
  page.status.dataset.state = state.state;
  page.statusWords.textContent = statusWords(state);
  page.countdown.textContent = "";
  if (state.state !== "live") takeBack();

  if (state.state === "live") {
    page.log.ariaBusy = "true";
    settle();
    hideTrouble();
    arrived();
  } else if (state.state === "reconnecting") {
    countDown(state.retryAt);
    ticking = setInterval(countDown, 1000, state.retryAt);
    const why = state.reason || "The connection was lost.";
    showTrouble(putBack.length ? LEFT_BEHIND : `${why} You can go on writing.`);
  } else if (state.state === "refused") {
    remember("sessionStorage", "hubbub.joined", "");
    showRefusal(state);
  }
  page.retry.hidden = state.state !== "reconnecting";
  if (page.join.open) showJoining(state);
  updateComposer();
}

/** @param {number} until */
function countDown(until) {
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  page.countdown.textContent = `in ${seconds} s`;
}

/** @param {ConnectionState} state */
function statusWords({ state }) {
  if (state === "live") return "Connected";
  if (state === "connecting") return arrivals > 0 ? "Reconnecting" : "Connecting";
  if (state === "reconnecting") return navigator.onLine ? "Reconnecting" : "Offline, trying again";
  return "Not connected";
}

/**
 * The dialog's own view of the state, while it is open.
 *
 * @param {ConnectionState} state
 */
function showJoining(state) {
  page.joinButton.disabled = state.state === "connecting";
  page.joinButton.textContent = state.state === "connecting" ? "Joining…" : "Join";
  if (state.state !== "reconnecting") return;
  complain(undefined, `${state.reason || "The server does not answer."} Still trying.`);
}

/** @param {string} words */
function showTrouble(words) {
  page.trouble.hidden = false;
  page.troubleWords.textContent = words;
}

function hideTrouble() {
  if (putBack.length) return showTrouble(LEFT_BEHIND);
  page.trouble.hidden = true;
  page.troubleWords.textContent = "";
}

// ---- What the server says --------------------------------------------------------------------

/** @param {Frame} frame */
function receive(frame) {
  const { username } = frame;
  const self = username === connection?.username;
  if (frame.type === "chat") return receiveChat(frame, self);
  if (frame.type === "online_users") {
    people = new Set(frame.content.split(",").filter(Boolean));
  } else if (frame.type === "user_joined") {
    people.add(username);
    if (!self) log.addNotice(username, "joined");
  } else if (frame.type === "user_left") {
    people.delete(username);
    if (!self) log.addNotice(username, "left");
  } else if (frame.type === "error") {
    return receiveError(frame);
  }
  showPeople();
}

/**
 * @param {Frame} frame
 * @param {boolean} own
 */
function receiveChat(frame, own) {
  if (frame.history) settle();
  if (!log.addMessage(frame)) return;
  page.empty.hidden = true;
  if (own) return settleOwn(frame);
  if (frame.history && arrivals < 2) return;
  if (!log.following) page.newer.hidden = false;
  if (document.hidden) unread++;
  showTitle();
}

/**
 * One of ours is in the room: no need to keep it any longer.
 *
 * @param {Frame} frame
 */
function settleOwn({ content, history }) {
  if (!history) {
    const at = underway.indexOf(content);
    if (at >= 0) underway.splice(at, 1);
  } else if (putBack.includes(content)) {
    putBack.splice(putBack.indexOf(content), 1);
    if (page.text.value.includes(content)) {
      setText(page.text.value.replace(content, () => "").replace(/^\n+/, ""));
    }
    hideTrouble();
  }
}

/** @param {Frame} frame */
function receiveError({ content }) {
  if (connection?.state.state !== "live") return;
  const refused = underway.pop();
  if (refused) setText(joinLines(refused, page.text.value));
  showTrouble(content);
}

/** Calls the replay finished when nothing more of it came for a moment. */
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    page.log.ariaBusy = "false";
    page.empty.hidden = log.size > 0;
  }, SETTLED_MS);
}

function showPeople() {
  const self = connection?.username ?? "";
  const others = [...people].filter((name) => name !== self).sort((a, b) => a.localeCompare(b));
  const all = people.has(self) ? [self, ...others] : others;
  page.peopleList.replaceChildren(...all.map((username) => {
    const name = element("span", "name", username);
    name.dir = "auto";
    const row = element("li", "", avatar(username), name);
    if (username === self) row.append(element("span", "you", "you"));
    return row;
  }));
  for (const count of page.peopleCounts) count.textContent = String(all.length);
}

function showTitle() {
  const count = unread ? `(${unread}) ` : "";
  document.title = connection ? `${count}${connection.room} · Hubbub` : "Hubbub";
}

// ---- Composer --------------------------------------------------------------------------------

function submit() {
  const content = readText();
  if (page.send.disabled || !connection?.send(content)) return;
  underway.push(content);
  putBack = [];
  setText("");
  hideTrouble();
  log.toEnd();
}

/** Whatever was sent and did not come back goes into the composer again: nothing typed is lost. */
function takeBack() {
  if (underway.length === 0) return;
  putBack = underway;
  underway = [];
  setText(joinLines(...putBack, page.text.value));
}

/** What would be sent: without blank lines around it, but with its indentation. */
function readText() {
  return page.text.value.replace(/^\s*\n/, "").trimEnd();
}

/** @param {string} text */
function setText(text) {
  page.text.value = text;
  updateComposer();
}

/** @param {string[]} lines */
function joinLines(...lines) {
  return lines.filter(Boolean).join("\n");
}

function updateComposer() {
  const content = readText();
  const bytes = utf8.encode(content).length;
  const left = MAX_MESSAGE_BYTES - bytes;
  const live = connection?.state.state === "live";
  page.send.disabled = !live || content === "" || left < 0;
  page.counter.textContent = bytes < COUNT_FROM_BYTES
    ? ""
    : left < 0
    ? `${-left} bytes too long`
    : `${left} bytes left`;
  page.counter.classList.toggle("over", left < 0);
  page.text.ariaInvalid = String(left < 0);
  if (!CSS.supports("field-sizing", "content")) {
    page.text.style.height = "auto";
    page.text.style.height = `${page.text.scrollHeight}px`;
  }
  remember("sessionStorage", "hubbub.draft", page.text.value);
}

// ---- The link, and what is remembered ----------------------------------------------------------

async function copyLink() {
  try {
    // There is no clipboard on plain http, other than on localhost.
    await navigator.clipboard.writeText(location.href);
    toast("Link copied");
  } catch {
    toast("Please copy the link from the address bar");
  }
}

/** @param {string} words */
function toast(words) {
  clearTimeout(toasting);
  page.toast.textContent = words;
  toasting = setTimeout(() => page.toast.replaceChildren(), TOAST_MS);
}

/** @typedef {"localStorage" | "sessionStorage"} Memory */

/**
 * @param {Memory} memory May be switched off: then nothing is remembered, and all else works.
 * @param {string} key
 * @param {string} value
 */
function remember(memory, key, value) {
  try {
    globalThis[memory].setItem(key, value);
  } catch { /* As said. */ }
}

/**
 * @param {Memory} memory
 * @param {string} key
 */
function remembered(memory, key) {
  try {
    return globalThis[memory].getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** The room and name this tab was in when it was reloaded. */
function lastJoined() {
  try {
    const { room, username } = JSON.parse(remembered("sessionStorage", "hubbub.joined"));
    return { room: String(room), username: String(username) };
  } catch {
    return undefined;
  }
}

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function get(id, type) {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`The page has no ${type.name} called "${id}".`);
}

// ---- Events and start --------------------------------------------------------------------------

page.joinForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = page.name.value.normalize("NFC").trim();
  const room = page.room.value.normalize("NFC").trim();
  if (name === "") return complain(page.name, "Type your name.");
  if (room === "") return complain(page.room, "Type a room.");
  complain(undefined, "");
  join({ rejoining: name === connection?.username && room === connection.room && arrivals > 0 });
});
// Escape has nowhere to go: there is no room behind the dialog.
page.join.addEventListener("cancel", (event) => event.preventDefault());
page.join.addEventListener("close", () => {
  const state = connection?.state.state ?? "closed";
  if (state === "closed" || state === "refused") page.join.showModal();
});

get("copy", HTMLButtonElement).addEventListener("click", copyLink);
get("invite", HTMLButtonElement).addEventListener("click", copyLink);
get("leave", HTMLButtonElement).addEventListener("click", leave);
page.newer.addEventListener("click", () => {
  log.toEnd();
  page.text.focus();
});
page.retry.addEventListener("click", () => {
  connection?.retry();
  page.text.focus();
});

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
page.text.addEventListener("keydown", (event) => {
  // Enter that ends a composition belongs to the input method; Safari tells only by the number.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
});
page.text.addEventListener("input", () => {
  if (page.text.value === "" && putBack.length > 0) {
    putBack = [];
    hideTrouble();
  }
  updateComposer();
});

addEventListener("online", () => connection?.retry());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  connection?.retry();
  unread = 0;
  showTitle();
});
// A popover that is open while the window grows into the wide layout would float over its column.
matchMedia("(width >= 52rem)").addEventListener("change", () => {
  if (page.people.matches(":popover-open")) page.people.hidePopover();
});

const last = lastJoined();
const room = new URLSearchParams(location.search).get("room") || last?.room || DEFAULT_ROOM;
page.room.value = page.roomName.textContent = room;
page.name.value = last?.username || remembered("localStorage", "hubbub.name");
setText(remembered("sessionStorage", "hubbub.draft"));
if (last?.room === room) join({ rejoining: true });
else askToJoin(WELCOME);
