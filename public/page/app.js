// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The page: creates its parts and connects them. `visits.js` keeps the joined rooms, `log.js` shows
 * messages, `composer.js` writes them, `joining.js` asks for a name and a room.
 *
 * @module
 */

import { HELP, readLine } from "../commands.js";
import { isSameName } from "../names.js";
import {
  addressOf,
  DEFAULT_ROOM,
  isSamePlace,
  newEncryptedPlace,
  readAddress,
  ROOT,
  titleOf,
  whyNoEncryption,
} from "./address.js";
import { Attention } from "./attention.js";
import { Composer } from "./composer.js";
import { element, get, listOf } from "./dom.js";
import { greet, isEmbedded, isOutOfSight, keepName, keptName, tellUnread } from "./embedding.js";
import { Header } from "./header.js";
import { Joining } from "./joining.js";
import { Log } from "./log.js";
import { browser, tab } from "./memory.js";
import { Menu } from "./menu.js";
import { Navigation } from "./navigation.js";
import { People } from "./people.js";
import { mayDelete, mayLeave } from "./questions.js";
import { Rooms } from "./rooms.js";
import { Status } from "./status.js";
import { Visits } from "./visits.js";
import { Windows } from "./windows.js";

/** @import { Place } from "./address.js" */
/** @import { Mode } from "./composer.js" */
/** @import { KickDialog, SettingsDialog } from "./moderation.js" */
/** @import { Message } from "./timeline.js" */
/** @import { Visit } from "./visit.js" */

/** The place of an address without a room. */
const LOBBY = { room: DEFAULT_ROOM, key: "" };

const WAITS_FOR_ACCOUNT = "Unsent messages wait until you sign in again in this window.";
const NO_SOCKETS =
  "WebSockets are blocked here, so this page uses plain HTTP. It tries WebSockets again later.";
const GOES_WITH_ROOM = "Unsent messages are lost when you leave the room.";

const page = {
  log: get("log", HTMLElement),
  newer: get("newer", HTMLButtonElement),
  newerWords: get("newer-words", HTMLElement),
  people: get("people", HTMLElement),
  rooms: get("rooms", HTMLElement),
  typing: get("typing", HTMLElement),
};

/** @type {Visits} */
const visits = new Visits(ROOT, {
  onShow: show,
  onState: showState,
  onWay(visit, state, username) {
    joining.showState(state);
    if (state.state !== "refused" && (state.state !== "reconnecting" || joining.isOpen)) return;
    if (visit !== visits.shown) visits.stay();
    if (joining.isOpen && state.state === "refused") {
      const isStill = () => joining.isOpen;
      return joining.showRefusal(state, { place: visit.place, username, wasIn: false, isStill });
    }
    composer.hint(state.reason || "The server does not answer. Try again in a moment.");
    // The address may already name the other room.
    if (visits.shown) navigation.show(visits.shown, { isBack: true });
  },
  onEvents(visit) {
    if (visit !== visits.shown) return;
    showPeople(visit);
    navigation.showWanted();
  },
  onTimeline: (visit) => visit === visits.shown && log.show(visit.timeline),
  onNews(visit, message) {
    const isShown = visit === visits.shown;
    attention.news(visit, message, isShown);
    if (isShown) showNewer();
  },
  onOutgoing(visit, item) {
    if (item.status === "failed") attention.announce(`Not sent: ${item.content}. ${item.reason}`);
    if (visit === visits.shown) status.showWaiting(visit);
  },
  onComplaint: (visit, sentence) => visit === visits.shown && composer.hint(sentence),
  onRooms: showRooms,
});

const log = new Log({
  scroller: page.log,
  rows: get("rows", HTMLElement),
  top: get("top", HTMLElement),
}, {
  onFollow: showNewer,
  onSeen: (seq) => visits.shown?.see(seq),
  onHole: (hole, direction) => visits.shown?.fill(hole, direction),
  onReply: ({ id = "", author, text }) => composer.reply({ id, author, text }),
  onEdit: ({ id = "", text }) => composer.edit(id, text),
  onDelete: askToDelete,
  onRetry: ({ ref = "" }) => visits.shown?.sendAgain(ref),
  onDiscard: ({ ref = "" }) => visits.shown?.discard(ref),
  onEditAgain: ({ id = "", text, change }) => composer.edit(id, text, change?.text),
  onDiscardChange: ({ change }) => visits.shown?.discard(change?.ref ?? ""),
  onWhisper: (name) => composer.whisper(name),
  onJump: (id) => navigation.jump(id),
  linkTo: ({ seq }) => visits.shown ? addressOf(visits.shown.place, seq) : "",
  onCopy: (text) =>
    header.copy(text, "Code copied", "Copying failed. Select the code and copy it."),
});

const composer = new Composer({
  form: get("composer", HTMLFormElement),
  text: get("text", HTMLTextAreaElement),
  options: get("options", HTMLElement),
  optionsStatus: get("options-status", HTMLElement),
  send: get("send", HTMLButtonElement),
  keys: get("keys", HTMLElement),
  counter: get("counter", HTMLElement),
  hint: get("hint", HTMLElement),
  mode: get("mode", HTMLElement),
  modeWords: get("mode-words", HTMLElement),
  modeEnd: get("mode-end", HTMLButtonElement),
}, {
  onSubmit: submit,
  onTyping: (active) => visits.shown?.connection?.typing(active),
  onMode: (mode) => log.editing = mode.type === "edit" ? mode.id : undefined,
  onEditLast() {
    const last = visits.shown?.timeline.lastOwn;
    if (last) composer.edit(last.id ?? "", last.text);
  },
  names() {
    const names = visits.shown?.connection?.roster.names ?? [];
    return names.filter((name) => !isSameName(name, visits.shown?.username ?? ""));
  },
});

const people = new People({
  list: get("people-list", HTMLElement),
  rest: get("people-rest", HTMLElement),
  counts: [get("people-count", HTMLElement), get("people-button-count", HTMLElement)],
}, (name) => {
  hide(page.people);
  composer.whisper(name);
}, (name) => {
  hide(page.people);
  askToRemove(name);
});

const rooms = new Rooms({
  list: get("rooms-list", HTMLElement),
  total: get("rooms-total", HTMLElement),
}, {
  onGo(place) {
    hide(page.rooms);
    go(place);
    composer.focus();
  },
  onLeave: leave,
});

const attention = new Attention({
  announcer: get("announcer", HTMLElement),
  toast: get("toast", HTMLElement),
  notify: get("notify", HTMLButtonElement),
}, (visit) => go(visit.place));

const joining = new Joining(() => visits.shown, {
  onJoin(place, name) {
    const { shown } = visits;
    const isHere = shown?.isLive && shown.username === name && isSamePlace(shown.place, place);
    if (isHere) joining.close();
    else visits.go(place, name);
  },
  onStay() {
    visits.stay();
    composer.focus();
  },
  onMe() {
    menu.showMe(joining.me);
    if (joining.me.username !== null) visits.takeUp(joining.me.username);
  },
  async onSignOut() {
    const unsent = visits.all.reduce((sum, { outbox }) => sum + outbox.items.length, 0);
    if (!await mayLeave(unsent, WAITS_FOR_ACCOUNT)) return false;
    // Before the request, so that the server has no connection to close.
    visits.pause();
    return true;
  },
  onSignedOut(username) {
    visits.forgetAll(username);
    browser.forgetRoomsOf(username);
    showRooms();
  },
  onStillSignedIn(words) {
    visits.resume();
    attention.toast(words);
  },
  whereElse: () => visits.all.find((visit) => visit.isLive && visit !== visits.shown)?.place,
  onElsewhere: go,
});

const menu = new Menu({
  onEncrypted() {
    const trouble = whyNoEncryption();
    if (trouble) attention.toast(trouble);
    else go(newEncryptedPlace());
  },
  onSettings: openSettings,
  onSwitch() {
    const { place, isEncrypted } = visits.shown ?? { place: LOBBY, isEncrypted: false };
    const title = isEmbedded
      ? "Change name"
      : joining.me.username === null
      ? "Change name or room"
      : "Change room";
    joining.ask(place, { title, elsewhere: isEncrypted ? DEFAULT_ROOM : place.room });
  },
  onSignIn: () => joining.askToSignIn(),
  onSignOut: () => joining.signOut(),
  onLeave: () => visits.shown && leave(visits.shown.place),
});

const header = new Header({
  onSettings: openSettings,
  onWords: (words) => attention.toast(words),
});
const navigation = new Navigation(log, {
  onPlace: (place) => visits.shown?.hasArrived ? go(place) : joining.ask(place),
  onMissing: () => attention.toast("This message is no longer there"),
});
const status = new Status(() => {
  visits.shown?.retry();
  composer.focus();
});
/** Whether the remark about plain HTTP was shown. */
let hasSaidWay = false;
/** Whether the list of rooms waits to be painted. */
let areRoomsDue = false;
/** @type {{ kick: KickDialog, settings: SettingsDialog } | undefined} */
let dialogs;
const windows = new Windows((room) =>
  visits.all.find((visit) => visit.isLive && visit.place.room === room)?.username
);

// ---- Rooms ---------------------------------------------------------------------------------------

/**
 * Joins a room under the name used there before, or under the current one.
 *
 * @param {Place} place
 */
function go(place) {
  const known = browser.rooms.find((room) => isSamePlace(room, place));
  const name = visits.find(place)?.username || known?.username || visits.shown?.username;
  const username = joining.me.username ?? (name || joining.name);
  if (username === "") joining.ask(place);
  else visits.go(place, username);
}

/** @param {Place} place */
async function leave(place) {
  const visit = visits.find(place);
  if (!await mayLeave(visit?.outbox.items.length ?? 0, GOES_WITH_ROOM)) return;
  const wasShown = visit !== undefined && visit === visits.shown;
  const words = `You left ${titleOf(place.room)}`;
  visits.leave(place);
  const [next] = wasShown ? recentRooms() : [];
  if (wasShown && !next) return joining.ask(place, { title: words });
  attention.toast(words);
  if (next) go(next);
}

/** The rooms of the list, the most recently visited first. */
function recentRooms() {
  return browser.rooms.toSorted((a, b) => b.visitedAt - a.visitedAt);
}

// ---- Showing -------------------------------------------------------------------------------------

/** Shows another visit. @param {Visit} visit */
function show(visit) {
  dialogs?.kick.close();
  dialogs?.settings.close();
  visit.markNew();
  log.show(visit.timeline);
  composer.use(visit.drafts);
  composer.closedBecause = visit.keyTrouble ? "You need the whole link to write here" : "";
  people.reset();
  showRooms();
  showState(visit);
  showNewer();
  if (visit.hasArrived) navigation.show(visit);
}

/** @param {Visit} visit */
function showState(visit) {
  const { state, place, username } = visit;
  status.show(visit);
  showPeople(visit);
  joining.showState(state);
  if (state.state === "refused") {
    // The room no longer admits this person: it leaves the list.
    if ([403, 4003].includes(state.code)) browser.forgetRoom(place);
    showRooms();
    const isStill = () => visits.shown === visit && visit.state === state;
    joining.showRefusal(state, { place, username, wasIn: visit.hasArrived, isStill });
  }
  if (state.state !== "live") return;
  joining.knowSession();
  composer.maxBytes = visit.maxBytes;
  showRooms();
  navigation.show(visit);
  if (joining.me.username === null) {
    browser.name = joining.name = username;
    keepName(username);
  }
  if (joining.isOpen) joining.close();
  if (state.via === "stream" && !hasSaidWay) {
    hasSaidWay = true;
    attention.toast(NO_SOCKETS);
  }
}

/** Shows who is in the room, who types, and the actions allowed to the reader. @param {Visit} visit */
function showPeople(visit) {
  const { connection, username, typists } = visit;
  header.show(visit);
  menu.showRole(connection?.role);
  log.moderated = people.mayRemove = connection !== undefined && connection.role !== "member";
  if (connection) people.show(connection.roster, username);
  const who = [...typists];
  page.typing.textContent = who.length === 0
    ? ""
    : `${listOf(who)} ${who.length === 1 ? "is" : "are"} typing…`;
}

/** Schedules one painting of the list of rooms, at the end of this turn. */
function showRooms() {
  if (!areRoomsDue) queueMicrotask(paintRooms);
  areRoomsDue = true;
}

/** Paints the list of rooms and the unread counts. */
function paintRooms() {
  areRoomsDue = false;
  const known = browser.rooms;
  // Without storage, the rooms of this page are the whole list.
  const others = visits.all.filter(({ place, hasArrived }) =>
    hasArrived && !known.some((room) => isSamePlace(room, place))
  ).map(({ place }) => place);
  const entries = [...known, ...others].map(({ room, key }) => {
    const place = { room, key };
    const visit = visits.find(place);
    return { place, unread: visit?.unread ?? 0, isWanted: visit?.isWanted ?? false };
  });
  rooms.show(entries, visits.shown?.place);
  attention.title(visits.shown?.place.room ?? "", visits.unread);
  tellUnread(visits.unread);
}

/** Shows the button to the latest message unless the reader is there, where all counts as seen. */
function showNewer() {
  const { shown } = visits;
  if (shown && log.following && !isOutOfSight()) shown.see(shown.timeline.newestSeq);
  page.newer.hidden = log.following;
  const count = visits.shown?.unread ?? 0;
  page.newerWords.textContent = count === 0
    ? "Jump to the latest"
    : count === 1
    ? "1 new message"
    : `${count} new messages`;
}

/** Loads the dialogs about people and rooms at their first use: few people need them. */
async function loadDialogs() {
  try {
    const { KickDialog, SettingsDialog } = await import("./moderation.js");
    return dialogs ??= {
      kick: new KickDialog(page.log, (words) => attention.toast(words)),
      settings: new SettingsDialog((words) => {
        if (visits.shown) showPeople(visits.shown);
        attention.toast(words);
      }),
    };
  } catch {
    attention.toast("The server does not answer. Try again in a moment.");
    return undefined;
  }
}

async function openSettings() {
  const loaded = await loadDialogs();
  if (visits.shown?.connection) {
    loaded?.settings.open(visits.shown.connection, joining.me.username);
  }
}

/** @param {string} name */
async function askToRemove(name) {
  const loaded = await loadDialogs();
  if (visits.shown?.connection) loaded?.kick.open(visits.shown.connection, name);
}

/** @param {HTMLElement} popover */
function hide(popover) {
  if (popover.matches(":popover-open")) popover.hidePopover();
}

// ---- Writing -------------------------------------------------------------------------------------

/**
 * @param {string} text
 * @param {Mode} mode
 * @returns {boolean} whether the composer may clear the text
 */
function submit(text, mode) {
  const visit = visits.shown;
  if (!visit?.connection) return false;
  if (mode.type === "edit") {
    visit.edit(mode.id, text);
    return true;
  }
  const line = readLine(text, visit.connection.roster.names);
  switch (line.type) {
    case "say":
      if (mode.type === "whisper") visit.whisper(mode.to, line.text);
      else visit.say(line.text, mode.type === "reply" ? mode.id : undefined);
      break;
    case "whisper":
      visit.whisper(line.to, line.text);
      break;
    case "nick":
      return rename(visit, line.name);
    case "help":
      showHelp(visit);
      break;
    case "wrong":
      composer.hint(line.why);
      return false;
  }
  log.toEnd();
  header.show(visit);
  return true;
}

/** @param {Visit} visit @param {string} name */
function rename(visit, name) {
  if (!visit.isLive || visit.outbox.items.length > 0) {
    composer.hint("You can change your name once you are connected and all messages are sent.");
    return false;
  }
  visits.go(visit.place, name);
  return true;
}

/** @param {Visit} visit */
function showHelp({ timeline }) {
  const rows = HELP.flatMap(([command, what]) => [
    element("dt", "", element("code", "", command)),
    element("dd", "", what),
  ]);
  const only = element("small", "mark", "Only you see this");
  const title = element("h2", "", "What you can type ", only);
  timeline.addCard(element("div", "note", title, element("dl", "", ...rows)));
}

/** @param {Message} message */
async function askToDelete({ id = "", text }) {
  const isMeant = await mayDelete(text);
  composer.focus();
  if (!isMeant) return;
  try {
    await visits.shown?.connection?.delete(id);
  } catch (error) {
    attention.toast(error instanceof Error ? error.message : String(error));
  }
}

// ---- Events and start ----------------------------------------------------------------------------

get("join-another", HTMLButtonElement).addEventListener("click", () => {
  hide(page.rooms);
  joining.ask(visits.shown?.place ?? LOBBY, { title: "Join another room", elsewhere: "" });
});
page.newer.addEventListener("click", () => {
  log.toEnd();
  composer.focus();
});

addEventListener("online", () => visits.check());
addEventListener("offline", () => visits.interrupt());
addEventListener("pagehide", () => visits.pause());
addEventListener("pageshow", ({ persisted }) => persisted && visits.resume());
addEventListener("beforeunload", (event) => {
  if (visits.all.some(({ outbox }) => outbox.items.length > 0)) event.preventDefault();
});
document.addEventListener("visibilitychange", showSight);
greet(showSight);
function showSight() {
  if (isOutOfSight()) return visits.shown?.markNew();
  visits.check();
  showNewer();
}
// In a wider layout, an open popover would float over its column.
for (
  const [width, popover] of /** @type {const} */ ([["52rem", page.people], ["72rem", page.rooms]])
) {
  matchMedia(`(width >= ${width})`).addEventListener("change", () => hide(popover));
}

// The icon's address is relative to the page's address, which changes.
document.querySelector("link[rel=icon]")?.setAttribute("href", new URL("favicon.svg", ROOT).href);

/** Returns to the room of this tab, or to a known one; asks before joining any other. */
async function start() {
  const last = tab.place;
  const recent = recentRooms();
  const { room, key } = readAddress(location.href).place ?? last ?? recent[0] ?? LOBBY;
  const place = { room, key };
  joining.name = last?.username || browser.name;
  showRooms();
  const [other] = await Promise.all([windows.whoIsIn(room), joining.learnSession()]);
  const isReload = last && isSamePlace(last, place);
  const known = isReload
    ? last
    : other
    ? undefined
    : recent.find((room) => isSamePlace(room, place));
  // A frame remembers the name.
  const kept = isEmbedded && !other ? joining.me.username ?? keptName() : "";
  const username = known?.username || kept;
  if (username) visits.go(place, joining.me.username ?? username);
  else joining.ask(place, { other: other ?? "" });
  if (isEmbedded) return;
  for (const { username, ...room } of recent) {
    const there = { room: room.room, key: room.key };
    if (isSamePlace(there, place) || tab.unsent(room.room).size === 0) continue;
    visits.wake(there, joining.me.username ?? username);
  }
}

await start();
