// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The page: makes its parts and says what each has to do with the others. `visits.js` knows where one
 * is, `log.js` shows what is said, `composer.js` is where one writes, `joining.js` asks who one is.
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

/** The place of an address that names none. */
const LOBBY = { room: DEFAULT_ROOM, key: "" };

const WAITS_FOR_ACCOUNT = "What is not sent waits until you sign in again in this window.";
const NO_SOCKETS =
  "WebSockets do not get through here, so this page uses plain HTTP, and tries them again later.";
const GOES_WITH_ROOM = "What is not sent is lost when you leave the room.";

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
    composer.hint(state.reason || "The server does not answer.");
    // The address may already be that of the other room.
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
  onCopy: (text) => header.copy(text, "Code copied", "Please select the code and copy it"),
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
    // First, so that the server has nobody to send away.
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
/** Whether it was said that WebSockets do not get through. */
let hasSaidWay = false;
/** Whether the list of rooms is to be shown anew. */
let areRoomsDue = false;
/** @type {{ kick: KickDialog, settings: SettingsDialog } | undefined} */
let dialogs;
const windows = new Windows((room) =>
  visits.all.find((visit) => visit.isLive && visit.place.room === room)?.username
);

// ---- Going about ---------------------------------------------------------------------------------

/**
 * Goes into a room, as who one is there, or here.
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

/** The rooms one is in, the one that was visited last first. */
function recentRooms() {
  return browser.rooms.toSorted((a, b) => b.visitedAt - a.visitedAt);
}

// ---- What the page shows -------------------------------------------------------------------------

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
    // Whoever may not come in any more has no use for it in the list.
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

/** Who is there, who types, and what one may do. @param {Visit} visit */
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

/** Shows the list of rooms at the end of this turn, once for all that changes in it. */
function showRooms() {
  if (!areRoomsDue) queueMicrotask(paintRooms);
  areRoomsDue = true;
}

/** The list of rooms, and what is unread in all of them. */
function paintRooms() {
  areRoomsDue = false;
  const known = browser.rooms;
  // Where the browser remembers nothing, those of this page are all there are.
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

/** The button to the latest message is there while the reader is elsewhere; at the end all is seen. */
function showNewer() {
  const { shown } = visits;
  if (shown && log.following && !isOutOfSight()) shown.see(shown.timeline.newestSeq);
  page.newer.hidden = log.following;
  const count = visits.shown?.unread ?? 0;
  page.newerWords.textContent = count === 0
    ? "To the latest"
    : count === 1
    ? "1 new message"
    : `${count} new messages`;
}

/** The dialogs about people and rooms. Few people need them: they are loaded when somebody does. */
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
    attention.toast("The server does not answer");
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

// ---- What one writes -----------------------------------------------------------------------------

/**
 * @param {string} text
 * @param {Mode} mode
 * @returns {boolean} whether it was taken
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
    composer.hint("You can change your name when you are connected and all is sent.");
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
// A popover that is open while the window grows into a wider layout would float over its column.
for (
  const [width, popover] of /** @type {const} */ ([["52rem", page.people], ["72rem", page.rooms]])
) {
  matchMedia(`(width >= ${width})`).addEventListener("change", () => hide(popover));
}

// It is relative to an address that changes.
document.querySelector("link[rel=icon]")?.setAttribute("href", new URL("favicon.svg", ROOT).href);

/** Comes back to where this tab was, or to a room one is in; asks about any other. */
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
  // In a frame nobody has to say again who is there.
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
