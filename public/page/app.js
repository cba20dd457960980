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
import { isSameName } from "../connection.js";
import {
  addressOf,
  DEFAULT_ROOM,
  isSamePlace,
  newEncryptedPlace,
  readAddress,
  titleOf,
  whyNoEncryption,
} from "./address.js";
import { Attention } from "./attention.js";
import { Composer } from "./composer.js";
import { element, get, listOf } from "./dom.js";
import { Joining } from "./joining.js";
import { Log } from "./log.js";
import { browser, tab } from "./memory.js";
import { Menu } from "./menu.js";
import { KickDialog, SettingsDialog } from "./moderation.js";
import { People } from "./people.js";
import { Rooms } from "./rooms.js";
import { Status } from "./status.js";
import { Visits } from "./visits.js";
import { Windows } from "./windows.js";

/** @import { Place } from "./address.js" */
/** @import { Mode } from "./composer.js" */
/** @import { Message } from "./timeline.js" */
/** @import { Visit } from "./visit.js" */

const MEMBERS_ONLY = "Only members may come in. The server can read what is said.";

/** The place of an address that names none. */
const LOBBY = { room: DEFAULT_ROOM, key: "" };

const page = {
  about: get("about", HTMLButtonElement),
  roomName: get("room-name", HTMLElement),
  lock: get("lock", SVGElement),
  membersOnly: get("members-only", HTMLButtonElement),
  copy: get("copy", HTMLButtonElement),
  log: get("log", HTMLElement),
  empty: get("empty", HTMLElement),
  emptyTitle: get("empty-title", HTMLElement),
  emptyWords: get("empty-words", HTMLElement),
  invite: get("invite", HTMLButtonElement),
  emptyAbout: get("empty-about", HTMLButtonElement),
  newer: get("newer", HTMLButtonElement),
  newerWords: get("newer-words", HTMLElement),
  people: get("people", HTMLElement),
  rooms: get("rooms", HTMLElement),
  typing: get("typing", HTMLElement),
  privacy: get("privacy", HTMLDialogElement),
  ask: get("ask", HTMLDialogElement),
  askQuote: get("ask-quote", HTMLElement),
  unsent: get("unsent", HTMLDialogElement),
  unsentWords: get("unsent-words", HTMLElement),
};

/** The message that the address names, to be shown as soon as it can be. @type {number | undefined} */
let wanted = readAddress(location.href).at;

const attention = new Attention({
  announcer: get("announcer", HTMLElement),
  toast: get("toast", HTMLElement),
  notify: get("notify", HTMLButtonElement),
}, (visit) => go(visit.place));

const visits = new Visits(new URL("/", location.href), {
  onShow: show,
  onState: showState,
  onWay(visit, state, username) {
    joining.showState(state);
    if (state.state !== "refused" && (state.state !== "reconnecting" || joining.isOpen)) return;
    if (visit !== visits.shown) visits.stay();
    const { reason } = state;
    if (joining.isOpen && state.state === "refused") {
      joining.showRefusal(state, { place: visit.place, username, wasIn: false });
    } else composer.hint(reason || "The server does not answer.");
    // The address may already be that of the other room.
    if (!joining.isOpen) showAddress();
  },
  onEvents(visit) {
    if (visit !== visits.shown) return;
    showRole(visit);
    showTyping(visit);
    if (visit.connection) people.show(visit.connection.roster, visit.username);
    page.empty.hidden = !visit.isLive || !visit.timeline.isEmpty;
    showWanted(visit);
  },
  onTimeline(visit) {
    if (visit === visits.shown) log.show(visit.timeline);
  },
  onNews(visit, message) {
    const isShown = visit === visits.shown;
    attention.news(visit, message, isShown);
    if (!isShown) return;
    if (!log.following) showNewer();
    else if (!document.hidden) visit.see(visit.timeline.newestSeq);
  },
  onOutgoing(visit, item) {
    if (item.status === "failed") attention.announce(`Not sent: ${item.content}. ${item.reason}`);
    if (visit === visits.shown) status.showWaiting(visit);
  },
  onComplaint(visit, sentence) {
    if (visit === visits.shown) composer.hint(sentence);
  },
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
  onRetry: ({ ref = "" }) => visits.shown?.outbox.sendAgain(ref),
  onDiscard: ({ ref = "" }) => visits.shown?.discard(ref),
  onEditAgain: ({ id = "", change }) => composer.edit(id, change?.text ?? ""),
  onDiscardChange: ({ change }) => visits.shown?.discard(change?.ref ?? ""),
  onWhisper: (name) => composer.whisper(name),
  onJump: jump,
  linkTo: ({ seq }) => visits.shown ? addressOf(visits.shown.place, seq) : "",
  onCopy: (text) => copy(text, "Code copied", "Please select the code and copy it"),
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
  names: () => namesOf(visits.shown),
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
  if (visits.shown?.connection) kickDialog.open(visits.shown.connection, name);
});

const kickDialog = new KickDialog({
  dialog: get("kick", HTMLDialogElement),
  form: get("kick-form", HTMLFormElement),
  title: get("kick-title", HTMLElement),
  reason: get("kick-reason", HTMLInputElement),
  ban: get("kick-ban", HTMLInputElement),
  error: get("kick-error", HTMLElement),
  submit: get("kick-button", HTMLButtonElement),
  cancel: get("kick-cancel", HTMLButtonElement),
  elsewhere: page.log,
}, (words) => attention.toast(words));

const settingsDialog = new SettingsDialog({
  dialog: get("room-settings", HTMLDialogElement),
  title: get("room-settings-title", HTMLElement),
  owner: get("room-owner", HTMLElement),
  moderatorsFact: get("room-moderators-fact", HTMLElement),
  moderatorNames: get("room-moderators", HTMLElement),
  accessFact: get("room-access-fact", HTMLElement),
  access: get("room-access", HTMLElement),
  claim: get("claim", HTMLElement),
  form: get("room-settings-form", HTMLFormElement),
  fields: get("room-settings-fields", HTMLElement),
  moderators: get("moderators", HTMLTextAreaElement),
  closed: get("closed", HTMLInputElement),
  membersField: get("members-field", HTMLElement),
  members: get("members", HTMLTextAreaElement),
  bansField: get("bans-field", HTMLElement),
  bans: get("bans", HTMLElement),
  error: get("room-settings-error", HTMLElement),
  submit: get("room-settings-button", HTMLButtonElement),
  cancel: get("room-settings-cancel", HTMLButtonElement),
}, (words) => {
  if (visits.shown) showRole(visits.shown);
  attention.toast(words);
});

const joining = new Joining(() => visits.shown, {
  onJoin: join,
  onStay() {
    visits.stay();
    composer.focus();
  },
  onMe: () => menu.showMe(joining.me),
  async onSignOut() {
    if (!await mayLeave(visits.all)) return false;
    visits.endAll();
    return true;
  },
  onTrouble: (words) => attention.toast(words),
});

const menu = new Menu({
  onEncrypted() {
    const trouble = whyNoEncryption();
    if (trouble) attention.toast(trouble);
    else go(newEncryptedPlace());
  },
  onSettings: openSettings,
  onSwitch: askForAnotherName,
  onSignIn: () => joining.askToSignIn(),
  onSignOut: () => joining.signOut(),
  onLeave: () => visits.shown && leave(visits.shown.place),
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

const status = new Status(() => {
  visits.shown?.retry();
  composer.focus();
});

const windows = new Windows((room) => {
  const visit = visits.all.find((visit) => visit.isLive && visit.place.room === room);
  return visit?.username;
});

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

/** @param {Place} place @param {string} name */
function join(place, name) {
  const { shown } = visits;
  const isHere = shown?.isLive && shown.username === name && isSamePlace(shown.place, place);
  if (isHere) joining.close();
  else visits.go(place, name);
}

function askForAnotherRoom() {
  hide(page.rooms);
  const place = visits.shown?.place ?? LOBBY;
  joining.ask(place, { title: "Join another room", elsewhere: "" });
}

function askForAnotherName() {
  const place = visits.shown?.place ?? LOBBY;
  const title = joining.me.username === null ? "Change name or room" : "Change room";
  joining.ask(place, { title, elsewhere: visits.shown?.isEncrypted ? DEFAULT_ROOM : place.room });
}

/** @param {Place} place */
async function leave(place) {
  const visit = visits.find(place);
  const wasShown = visit !== undefined && visit === visits.shown;
  if (visit && !await mayLeave([visit])) return;
  visits.leave(place);
  if (!wasShown) return attention.toast(`You left ${titleOf(place.room)}`);
  const [next] = browser.rooms.toSorted((a, b) => b.visitedAt - a.visitedAt);
  if (!next) return joining.ask(place, { title: `You left ${titleOf(place.room)}` });
  attention.toast(`You left ${titleOf(place.room)}`);
  go(next);
}

/**
 * Asks a person who leaves texts behind that are not sent.
 *
 * @param {readonly Visit[]} left
 * @returns {Promise<boolean>}
 */
async function mayLeave(left) {
  const count = left.reduce((sum, { outbox }) => sum + outbox.items.length, 0);
  if (count === 0) return true;
  const messages = count === 1 ? "A message is" : `${count} messages are`;
  page.unsentWords.textContent = `${messages} not sent yet.`;
  page.unsent.returnValue = "";
  page.unsent.showModal();
  await new Promise((resolve) => page.unsent.addEventListener("close", resolve, { once: true }));
  return page.unsent.returnValue === "yes";
}

/** The address is another one: somebody went back, or changed it. */
function followAddress() {
  const { place, at } = readAddress(location.href);
  wanted = at;
  if (!place) return;
  if (visits.shown && isSamePlace(place, visits.shown.place)) showWanted(visits.shown);
  else if (visits.shown?.hasArrived) go(place);
  else joining.ask(place);
}

/** Has the address name the room that is shown. */
function showAddress() {
  const visit = visits.shown;
  if (!visit) return;
  const { place } = readAddress(location.href);
  const isRoom = location.pathname.startsWith("/r/");
  if (isRoom && place && isSamePlace(place, visit.place)) return;
  if (isRoom) history.pushState(null, "", addressOf(visit.place));
  else history.replaceState(null, "", addressOf(visit.place));
}

/** Shows the message that the address names, once its room is there. @param {Visit} visit */
async function showWanted(visit) {
  const seq = wanted;
  if (seq === undefined || !visit.isLive) return;
  wanted = undefined;
  await visit.loadAround(seq);
  if (visit === visits.shown && !log.reveal(seq)) {
    attention.toast("This message is no longer there");
  }
}

/** Goes to a message, as a link to it does. @param {string} id */
async function jump(id) {
  const visit = visits.shown;
  const seq = visit?.timeline.find(id)?.seq ?? seqOf(id);
  if (!visit || seq === undefined) return;
  history.pushState(null, "", addressOf(visit.place, seq));
  wanted = seq;
  await showWanted(visit);
}

/** The number of a message, which its id ends in. @param {string} id */
function seqOf(id) {
  const seq = Number(/-(\d+)$/.exec(id)?.[1]);
  return Number.isSafeInteger(seq) ? seq : undefined;
}

// ---- What the page shows -------------------------------------------------------------------------

/** Shows another visit. @param {Visit} visit */
function show(visit) {
  visit.markNew();
  log.show(visit.timeline);
  composer.use(visit.drafts);
  page.empty.hidden = true;
  people.reset();
  if (visit.connection) people.show(visit.connection.roster, visit.username);
  showPlace(visit);
  showState(visit);
  showNewer();
  if (visit.hasArrived) showAddress();
}

/** @param {Visit} visit */
function showState(visit) {
  const { state, place, username } = visit;
  status.show(visit);
  showTyping(visit);
  joining.showState(state);
  if (state.state === "refused") {
    joining.showRefusal(state, { place, username, wasIn: visit.hasArrived });
  }
  if (state.state !== "live") return;
  joining.knowSession();
  composer.maxBytes = visit.maxBytes;
  showRole(visit);
  showRooms();
  showAddress();
  if (joining.me.username === null) browser.name = joining.name = username;
  if (joining.isOpen) joining.close();
  page.empty.hidden = !visit.timeline.isEmpty;
}

/** What the page says about the room before anything is said in it. @param {Visit} visit */
function showPlace({ place, isEncrypted, keyTrouble }) {
  page.roomName.textContent = titleOf(place.room);
  page.lock.toggleAttribute("hidden", !isEncrypted);
  page.about.hidden = !isEncrypted;
  page.about.textContent = keyTrouble ? "No key" : "Encrypted";
  page.emptyAbout.hidden = !isEncrypted || keyTrouble !== "";
  // A link without its key helps nobody.
  page.copy.hidden = page.invite.hidden = keyTrouble !== "";
  page.emptyTitle.textContent = isEncrypted ? "This room is encrypted" : "Nothing said here yet";
  page.emptyWords.textContent = keyTrouble ||
    (isEncrypted
      ? "Only people with the link can read what is written here. Send it to those you want to talk to."
      : "Say hello, or send the link to someone you would like to talk to.");
  composer.closedBecause = keyTrouble ? "You need the whole link to write here" : "";
  showRooms();
}

/** What one may do here, and whether others may come in. @param {Visit} visit */
function showRole({ connection }) {
  log.moderated = people.mayRemove = connection !== undefined && connection.role !== "member";
  page.membersOnly.hidden = !connection?.isPrivate;
  menu.showRole(connection?.role);
}

/** The list of rooms, and what is unread in all of them. */
function showRooms() {
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
}

/** @param {Visit} visit */
function showTyping({ typists }) {
  const who = [...typists];
  page.typing.textContent = who.length === 0
    ? ""
    : `${listOf(who)} ${who.length === 1 ? "is" : "are"} typing…`;
}

/** The button to the latest message is there while the reader is elsewhere. */
function showNewer() {
  page.newer.hidden = log.following;
  const count = visits.shown?.unread ?? 0;
  page.newerWords.textContent = count === 0
    ? "To the latest"
    : count === 1
    ? "1 new message"
    : `${count} new messages`;
}

/** @param {Visit | undefined} visit the names of the others in its room */
function namesOf(visit) {
  const names = visit?.connection?.roster.names ?? [];
  return names.filter((name) => !isSameName(name, visit?.username ?? ""));
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
  page.empty.hidden = true;
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
function askToDelete({ id = "", text }) {
  page.askQuote.textContent = text;
  page.ask.returnValue = "";
  page.ask.showModal();
  page.ask.addEventListener("close", async () => {
    composer.focus();
    if (page.ask.returnValue !== "yes") return;
    try {
      await visits.shown?.connection?.delete(id);
    } catch (error) {
      attention.toast(error instanceof Error ? error.message : String(error));
    }
  }, { once: true });
}

// ---- Small things --------------------------------------------------------------------------------

async function copyLink() {
  const visit = visits.shown;
  if (!visit) return;
  const link = new URL(addressOf(visit.place), location.href).href;
  const done = visit.isEncrypted ? "Encrypted room's link copied" : "Link copied";
  await copy(link, done, "Please copy the link from the address bar");
}

/** @param {string} text @param {string} done @param {string} instead What to do where it cannot be done. */
async function copy(text, done, instead) {
  try {
    // There is no clipboard on plain http, other than on localhost.
    await navigator.clipboard.writeText(text);
    attention.toast(done);
  } catch {
    attention.toast(instead);
  }
}

function openSettings() {
  if (visits.shown?.connection) {
    settingsDialog.open(visits.shown.connection, joining.me.username);
  }
}

/** @param {HTMLElement} popover */
function hide(popover) {
  if (popover.matches(":popover-open")) popover.hidePopover();
}

// ---- Events and start ------------------------------------------------------------------------------

page.membersOnly.addEventListener("click", () => {
  if (visits.shown?.connection?.role === "member") attention.toast(MEMBERS_ONLY);
  else openSettings();
});
page.copy.addEventListener("click", copyLink);
page.invite.addEventListener("click", copyLink);
for (const id of ["about", "empty-about"]) {
  get(id, HTMLButtonElement).addEventListener("click", () => page.privacy.showModal());
}
get("join-another", HTMLButtonElement).addEventListener("click", askForAnotherRoom);
page.newer.addEventListener("click", () => {
  log.toEnd();
  composer.focus();
});

addEventListener("online", () => visits.check());
addEventListener("offline", () => visits.interrupt());
addEventListener("popstate", followAddress);
addEventListener("pagehide", () => visits.pause());
addEventListener("pageshow", ({ persisted }) => persisted && visits.resume());
addEventListener("beforeunload", (event) => {
  if (!visits.all.every(({ outbox }) => outbox.isDone)) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return visits.shown?.markNew();
  visits.check();
  if (visits.shown && log.following) visits.shown.see(visits.shown.timeline.newestSeq);
});
// A popover that is open while the window grows into a wider layout would float over its column.
for (
  const [width, popover] of /** @type {const} */ ([["52rem", page.people], ["72rem", page.rooms]])
) {
  matchMedia(`(width >= ${width})`).addEventListener("change", () => hide(popover));
}

/** Comes back to where this tab was, or to a room one is in; asks about any other. */
async function start() {
  const here = readAddress(location.href).place;
  const last = tab.place;
  const recent = browser.rooms.toSorted((a, b) => b.visitedAt - a.visitedAt);
  const place = here ?? last ?? recent[0] ?? LOBBY;
  const known = recent.find((room) => isSamePlace(room, place));
  joining.name = last?.username || browser.name;
  showRooms();
  const [other] = await Promise.all([windows.whoIsIn(place.room), joining.learnSession()]);
  const name = last && isSamePlace(last, place)
    ? last.username
    : other
    ? undefined
    : known?.username;
  const username = name && (joining.me.username ?? name);
  if (username) visits.go({ room: place.room, key: place.key }, username);
  else joining.ask({ room: place.room, key: place.key }, { other: other ?? "" });
}

await start();
