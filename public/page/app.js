// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The page: joins rooms through `connection.js` and looks after what is around the conversation:
 * address, dialogs, status, title and notifications. `log.js` shows what is said, `people.js` who is
 * there, `composer.js` is where one writes, `sign_in.js` where one says who one is.
 *
 * @module
 */

import { AccountError, readSession, signOut } from "./account.js";
import { canSeal, Cipher, createKey, isKey, isSealed, maxTextBytes } from "../cipher.js";
import { HELP, readLine } from "../commands.js";
import { Composer } from "./composer.js";
import { Connection, isSameName } from "../connection.js";
import { element, listOf, Log } from "./log.js";
import { browser, tab } from "./memory.js";
import { KickDialog, SettingsDialog } from "./moderation.js";
import { People } from "./people.js";
import { SignIn } from "./sign_in.js";

/** @import { Session } from "./account.js" */
/** @import { ConnectionState, Outgoing, Told } from "../connection.js" */
/** @import { Mode } from "./composer.js" */
/** @import { Message } from "./log.js" */

/** Where one is, by the address: a room, and the key that only its link has. */
/** @typedef {{ room: string, key: string }} Place */

const DEFAULT_ROOM = "lobby";
/** What the address of an encrypted room looks like. */
const SEALED_ROOM = /^private-([a-z2-7]{16})$/;
/** How long a passing remark stays. */
const TOAST_MS = 2500;
/** What is read out is gathered for so long; more than so many messages are only counted. */
const ANNOUNCE_MS = 1000;
const MAX_ANNOUNCED = 3;

const WELCOME = "Join the conversation";
const PICK = "Pick a name and a room. No account needed.";
const PICK_ROOM = "Pick a room.";
const ELSEWHERE = "You can join another room.";
const ACCOUNTS_ONLY = "This server is for people with an account.";
const MEMBERS_ONLY = "Only members may come in. The server can read what is said.";
const INVITED =
  "You have the link to an encrypted room. Only people with the link can read what is said there.";
/** Refusals that may have to do with who one is for the server by now. */
const ACCOUNT_CODES = new Set([401, 403, 4001, 4003]);
const NO_KEY =
  "Your link lacks the key of this room. Ask for the whole link to read and write here.";
const NO_CRYPTO =
  "Browsers encrypt only on pages that came by https. Open the room by its https address.";

const page = {
  status: get("status", HTMLElement),
  statusWords: get("status-words", HTMLElement),
  countdown: get("countdown", HTMLElement),
  about: get("about", HTMLButtonElement),
  roomName: get("room-name", HTMLElement),
  lock: get("lock", SVGElement),
  membersOnly: get("members-only", HTMLButtonElement),
  toast: get("toast", HTMLElement),
  announcer: get("announcer", HTMLElement),
  copy: get("copy", HTMLButtonElement),
  menu: get("menu", HTMLElement),
  notify: get("notify", HTMLButtonElement),
  settings: get("settings", HTMLButtonElement),
  settingsWords: get("settings-words", HTMLElement),
  switchWords: get("switch-words", HTMLElement),
  signIn: get("sign-in", HTMLButtonElement),
  me: get("me", HTMLElement),
  meName: get("me-name", HTMLElement),

  log: get("log", HTMLElement),
  empty: get("empty", HTMLElement),
  emptyTitle: get("empty-title", HTMLElement),
  emptyWords: get("empty-words", HTMLElement),
  invite: get("invite", HTMLButtonElement),
  emptyAbout: get("empty-about", HTMLButtonElement),
  newer: get("newer", HTMLButtonElement),
  newerWords: get("newer-words", HTMLElement),
  people: get("people", HTMLElement),

  typing: get("typing", HTMLElement),
  trouble: get("trouble", HTMLElement),
  troubleWords: get("trouble-words", HTMLElement),
  retry: get("retry", HTMLButtonElement),

  join: get("join", HTMLDialogElement),
  joinReason: get("join-reason", HTMLElement),
  joinMe: get("join-me", HTMLElement),
  joinMeName: get("join-me-name", HTMLElement),
  joinAccount: get("join-account", HTMLElement),
  accountGuest: get("account-guest", HTMLButtonElement),
  joinForm: get("join-form", HTMLFormElement),
  joinTitle: get("join-title", HTMLElement),
  joinIntro: get("join-intro", HTMLElement),
  joinButton: get("join-button", HTMLButtonElement),
  joinError: get("join-error", HTMLElement),
  joinPrivate: get("join-private", HTMLButtonElement),
  joinCancel: get("join-cancel", HTMLButtonElement),
  name: get("name", HTMLInputElement),
  nameField: get("name-field", HTMLElement),
  nameError: get("name-error", HTMLElement),
  room: get("room", HTMLInputElement),
  roomField: get("room-field", HTMLElement),
  roomError: get("room-error", HTMLElement),

  privacy: get("privacy", HTMLDialogElement),
  ask: get("ask", HTMLDialogElement),
  askQuote: get("ask-quote", HTMLElement),
};

const log = new Log({
  scroller: page.log,
  rows: get("rows", HTMLElement),
  top: get("top", HTMLElement),
}, {
  onFollow: (following) => following && showNewer(0),
  onOlder: loadOlder,
  onEdit: ({ id, text }) => composer.edit(id ?? "", text),
  onDelete: askToDelete,
  onRetry: ({ ref }) => connection?.sendAgain(ref ?? ""),
  onDiscard: ({ ref }) => {
    connection?.discard(ref ?? "");
    log.discard(ref ?? "");
    keepPlace();
  },
  onWhisper: (name) => composer.whisper(name),
});

const composer = new Composer({
  form: get("composer", HTMLFormElement),
  text: get("text", HTMLTextAreaElement),
  send: get("send", HTMLButtonElement),
  counter: get("counter", HTMLElement),
  hint: get("hint", HTMLElement),
  mode: get("mode", HTMLElement),
  modeWords: get("mode-words", HTMLElement),
  modeEnd: get("mode-end", HTMLButtonElement),
}, {
  onSubmit: submit,
  onTyping: (active) => connection?.typing(active),
  onEditLast: () => {
    const last = log.lastOwn;
    if (last) composer.edit(last.id ?? "", last.text);
  },
});

const people = new People({
  list: get("people-list", HTMLElement),
  rest: get("people-rest", HTMLElement),
  counts: [get("people-count", HTMLElement), get("people-button-count", HTMLElement)],
}, (name) => {
  if (page.people.matches(":popover-open")) page.people.hidePopover();
  composer.whisper(name);
}, (name) => {
  if (page.people.matches(":popover-open")) page.people.hidePopover();
  if (connection) kickDialog.open(connection, name);
});

const signIn = new SignIn({
  title: page.joinTitle,
  intro: page.joinIntro,
  form: get("account-form", HTMLFormElement),
  reason: get("account-reason", HTMLElement),
  name: get("account-name", HTMLInputElement),
  nameError: get("account-name-error", HTMLElement),
  password: get("password", HTMLInputElement),
  passwordHint: get("password-hint", HTMLElement),
  passwordError: get("password-error", HTMLElement),
  codeField: get("admin-code-field", HTMLElement),
  code: get("admin-code", HTMLInputElement),
  codeError: get("admin-code-error", HTMLElement),
  error: get("account-error", HTMLElement),
  submit: get("account-button", HTMLButtonElement),
  other: get("account-other", HTMLButtonElement),
}, { onSignedIn });

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
}, toast);

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
  showRole();
  toast(words);
});

/** The room one is in, or is on the way into. @type {Connection | undefined} */
let connection;
/** Seals and opens what is said there. @type {Cipher | undefined} */
let cipher;
/**
 * On the way into another room, or to another name, while still in this one.
 *
 * @type {Connection | undefined}
 */
let candidate;
/** @type {Place} */
let place = readAddress();
/** Who one is for the server. @type {Session} */
let me = { username: null, guests: true };
/** Whether the server has said so. */
let knowsMe = false;
/** Whether the server has ever let us into this room. */
let hasArrived = false;
/** Finds the reader's name in a text. */
let mention = /(?!)/;
/** The refs of own messages that are on the page. @type {Set<string>} */
const shown = new Set();
/** Who else types. @type {Set<string>} */
const typists = new Set();
/** @type {string[]} */
let toAnnounce = [];
let unread = 0;
let newer = 0;
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticking;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let toasting;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let announcing;

// ---- Where one is --------------------------------------------------------------------------------

/** @returns {Place} */
function readAddress() {
  const url = new URL(location.href);
  const [, inPath = ""] = /^\/r\/([^/]+)\/?$/.exec(url.pathname) ?? [];
  const room = decode(inPath) || url.searchParams.get("room") || tab.place?.room || DEFAULT_ROOM;
  return { room: room.normalize("NFC").trim(), key: keyIn(url) };
}

/** @param {URL} url */
function keyIn(url) {
  return new URLSearchParams(url.hash.slice(1)).get("key") ?? "";
}

/** @param {Place} place */
function addressOf({ room, key }) {
  return `/r/${encodeURIComponent(room)}${key ? `#key=${key}` : ""}`;
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** Whether what is said there is encrypted. @param {Place} place */
function isEncrypted({ room, key }) {
  return key !== "" || SEALED_ROOM.test(room);
}

/** What a room is called on the page. @param {string} room */
function titleOf(room) {
  const [, letters] = SEALED_ROOM.exec(room) ?? [];
  return letters ? `Encrypted room ${letters.slice(0, 4)}` : room;
}

/** A name that nobody guesses, and a key that nobody has. @returns {Place} */
function newEncryptedPlace() {
  const letters = "abcdefghijklmnopqrstuvwxyz234567";
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const name = Array.from(bytes, (byte) => letters[byte % 32]).join("");
  return { room: `private-${name}`, key: createKey() };
}

/** The address is another one: somebody went back, or changed it. */
function followAddress() {
  const next = readAddress();
  if (next.room === place.room && next.key === place.key) return;
  if (connection && hasArrived) go(next, me.username ?? connection.username);
  else {
    place = next;
    askToJoin();
  }
}

// ---- Joining and leaving -------------------------------------------------------------------------

/**
 * Goes into a room. Whoever is in one already stays there until the other one lets them in.
 *
 * @param {Place} next
 * @param {string} username
 * @param {import("../connection.js").Unsent[]} [unsent]
 */
async function go(next, username, unsent = []) {
  const room = next.room.normalize("NFC").trim();
  const isSameRoom = connection?.room === room && place.key === next.key;
  const session = browser.session(room, username) ??
    (isSameRoom ? connection?.session : undefined);
  const nextCipher = await cipherFor(next);
  const joining = new Connection({
    base: new URL("/", location.href),
    room,
    username,
    unsent,
    ...(session && { session }),
    ...(nextCipher && { cipher: nextCipher }),
  });
  candidate?.close();
  candidate = undefined;
  if (connection?.state.state === "live") {
    candidate = joining;
    joining.on("state", () => {
      if (joining === candidate) onCandidate(joining, { ...next, room }, nextCipher);
    });
  } else adopt(joining, { ...next, room }, nextCipher);
  joining.open();
}

/** @param {Place} next */
async function cipherFor(next) {
  return isKey(next.key) && canSeal() ? await Cipher.fromKey(next.key) : undefined;
}

/** @param {Connection} joining @param {Place} next @param {Cipher | undefined} nextCipher */
function onCandidate({ state, username }, next, nextCipher) {
  showJoining(state);
  if (state.state === "live" && candidate) {
    const joined = candidate;
    candidate = undefined;
    adopt(joined, next, nextCipher);
    showState(state);
  } else if (state.state === "refused" || (state.state === "reconnecting" && !page.join.open)) {
    candidate?.close();
    candidate = undefined;
    const { reason } = state;
    if (page.join.open && state.state === "refused") showRefusal(state, username);
    else composer.hint(reason || "The server does not answer.");
    // The address may already be that of the other room.
    if (!page.join.open) history.replaceState(null, "", addressOf(place));
  }
}

/**
 * Makes a connection the one that the page shows.
 *
 * @param {Connection} joined
 * @param {Place} next
 * @param {Cipher | undefined} nextCipher
 */
function adopt(joined, next, nextCipher) {
  connection?.close();
  connection = joined;
  cipher = nextCipher;
  place = next;
  hasArrived = false;
  typists.clear();
  showTyping();
  shown.clear();
  log.reset();
  page.log.ariaBusy = "true";
  page.empty.hidden = true;
  mention = mentionOf(joined.username);
  composer.reset();
  showPlace();
  people.reset();
  for (const item of joined.unsent) showOutgoing(item);
  const ours = (/** @type {(what: any) => void} */ handle) => (/** @type {any} */ what) => {
    if (joined === connection) handle(what);
  };
  joined.on("state", ours(showState));
  joined.on("events", ours(receive));
  joined.on("outgoing", ours(showOutgoing));
  joined.on("gap", ours(showGap));
  joined.on("people", ours((roster) => people.show(roster, joined.username)));
}

function leave() {
  const left = connection;
  left?.close();
  tab.place = undefined;
  askToJoin(`You left ${titleOf(left?.room ?? DEFAULT_ROOM)}`);
}

/** @param {string} [title] */
function askToJoin(title = WELCOME) {
  if (!me.guests && me.username === null) return askToSignIn();
  const isInvited = isEncrypted(place);
  page.joinTitle.textContent = isInvited && title === WELCOME ? "Join an encrypted room" : title;
  page.joinIntro.textContent = isInvited
    ? keyTrouble() || INVITED
    : me.username === null
    ? PICK
    : PICK_ROOM;
  page.room.value = place.room;
  page.roomField.hidden = isInvited;
  page.joinPrivate.hidden = isInvited || !canSeal();
  page.joinCancel.hidden = connection?.state.state !== "live";
  page.nameField.hidden = page.joinAccount.hidden = me.username !== null;
  if (!page.name.value && me.username === null) page.name.value = connection?.username ?? "";
  complain(undefined, "");
  page.joinReason.textContent = "";
  signIn.hide();
  page.joinForm.hidden = false;
  openJoin();
  showJoining(connection?.state ?? { state: "closed" });
  (page.name.value || me.username !== null ? page.joinButton : page.name).focus();
}

/**
 * Shows the form for signing in.
 *
 * @param {{ name?: string, reason?: string, isNew?: boolean }} [how] `reason`: why one is asked to;
 *   `isNew`: to make an account
 */
function askToSignIn(how = {}) {
  page.joinForm.hidden = true;
  signIn.show({ ...how, intro: me.guests ? "" : ACCOUNTS_ONLY });
  const isIn = connection?.state.state === "live";
  page.accountGuest.hidden = !me.guests && !isIn;
  page.accountGuest.textContent = isIn ? "Stay in this room" : "Continue without an account";
  openJoin();
  signIn.focus();
}

function openJoin() {
  for (const popover of [page.people, page.menu]) {
    if (popover.matches(":popover-open")) popover.hidePopover();
  }
  // Whatever was being asked is about a room in which one is no longer.
  for (const dialog of document.querySelectorAll("dialog")) {
    if (dialog !== page.join) dialog.close();
  }
  if (!page.join.open) page.join.showModal();
}

/** What the room was that the dialog asks for. @returns {Place} */
function askedPlace() {
  if (isEncrypted(place) && page.roomField.hidden) return place;
  return { room: page.room.value.normalize("NFC").trim(), key: "" };
}

/** Finds out who one is for the server. Where it cannot tell, all stays as it was. */
async function learnSession() {
  try {
    me = await readSession();
    knowsMe = true;
  } catch (error) {
    if (!(error instanceof AccountError)) throw error;
  }
  showMe();
}

function showMe() {
  const { username } = me;
  page.me.hidden = page.joinMe.hidden = username === null;
  page.signIn.hidden = username !== null;
  page.meName.textContent = page.joinMeName.textContent = username ?? "";
  page.switchWords.textContent = username === null ? "Change name or room" : "Change room";
  showRole();
}

/** @returns {Promise<boolean>} whether the browser has kept the proof */
async function onSignedIn() {
  await learnSession();
  if (me.username === null) return false;
  const next = page.roomField.hidden || page.room.value === "" ? place : askedPlace();
  askToJoin();
  submitJoin(next);
  return true;
}

async function leaveAccount() {
  const left = connection;
  // First, so that the server has nobody to send away.
  left?.close();
  candidate?.close();
  candidate = undefined;
  try {
    await signOut();
  } catch (error) {
    left?.open();
    return toast(error instanceof Error ? error.message : String(error));
  }
  tab.place = undefined;
  connection = undefined;
  me = { ...me, username: null };
  page.name.value = browser.name;
  showMe();
  askToJoin("You are signed out");
}

/** @param {Place} next */
function submitJoin(next) {
  const name = me.username ?? page.name.value.normalize("NFC").trim();
  if (name === "") return complain(page.name, "Type your name.");
  if (next.room === "") return complain(page.room, "Type a room.");
  complain(undefined, "");
  const isHere = connection?.state.state === "live" && name === connection.username &&
    next.room === place.room && next.key === place.key;
  if (isHere) return page.join.close();
  // After a session has ended, what could not be sent any more is sent by the next one.
  const isAgain = connection?.state.state === "refused" && hasArrived &&
    connection.username === name && next.room === place.room && next.key === place.key;
  go(next, name, isAgain ? connection?.unsent : []);
}

/** The server has let us in: from now on the link and a reload lead back here. */
function arrived() {
  if (!connection) return;
  const { room, username, session } = connection;
  if (session) browser.keepSession(room, username, session);
  composer.maxBytes = maxBytes();
  if (hasArrived) return;
  hasArrived = true;
  if (me.username === null) browser.name = page.name.value = username;
  keepPlace();
  const address = addressOf(place);
  const isNew = location.pathname.startsWith("/r/") &&
    location.pathname + location.hash !== address;
  if (isNew) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  page.join.close();
  showTitle();
  composer.focus();
}

function maxBytes() {
  const limit = connection?.maxMessageBytes ?? Infinity;
  return cipher && limit !== Infinity ? maxTextBytes(limit) : limit;
}

/**
 * Says in the dialog why one is not in the room, at the field that can mend it.
 *
 * @param {{ reason: string, code: number }} refusal
 * @param {string} username as which one was refused
 */
async function showRefusal({ reason, code }, username) {
  // An account that is made lets go the guest who had its name: the form goes on by itself.
  if (signIn.isBusy) return;
  const asked = connection;
  if (ACCOUNT_CODES.has(code)) await learnSession();
  if (signIn.isBusy || asked !== connection) return;
  if ([401, 4001].includes(code) && me.username === null) {
    return askToSignIn({ name: username, reason });
  }
  // The server's sentences about names begin with which of the two they are about.
  const aboutRoom = code === 400 && reason.startsWith("The room");
  const aboutName = [400, 409, 4009].includes(code) && !aboutRoom && me.username === null;
  const wasIn = hasArrived && connection?.state.state === "refused";
  if (wasIn) {
    askToJoin(`You are no longer in ${titleOf(connection?.room ?? "")}`);
    page.joinIntro.textContent = ELSEWHERE;
    page.room.select();
  } else if (!page.join.open) askToJoin();
  if (aboutName || aboutRoom) return complain(aboutName ? page.name : page.room, reason);
  complain(undefined, "");
  page.joinReason.textContent = reason;
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

// ---- Status --------------------------------------------------------------------------------------

/** @param {ConnectionState} state */
function showState(state) {
  clearInterval(ticking);
  page.status.dataset.state = state.state;
  page.statusWords.textContent = statusWords(state);
  page.countdown.textContent = "";
  if (state.state === "live") {
    if (!knowsMe) learnSession();
    arrived();
    showTrouble("");
  } else {
    typists.clear();
    showTyping();
  }
  if (state.state === "reconnecting") {
    countDown(state.retryAt);
    ticking = setInterval(countDown, 1000, state.retryAt);
    const why = state.reason || "The connection was lost.";
    showTrouble(`${why} What you write is sent when it is back.`);
  } else if (state.state === "refused") {
    tab.place = undefined;
    showRefusal(state, connection?.username ?? "");
  }
  page.retry.hidden = state.state !== "reconnecting";
  showJoining(state);
}

/** @param {number} until */
function countDown(until) {
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  page.countdown.textContent = `in ${seconds} s`;
}

/** @param {ConnectionState} state */
function statusWords({ state }) {
  if (state === "live") return "Connected";
  if (state === "connecting") return hasArrived ? "Reconnecting" : "Connecting";
  if (state === "reconnecting") return navigator.onLine ? "Reconnecting" : "Offline, trying again";
  return "Not connected";
}

/**
 * The dialog's own view of the state, while it is open.
 *
 * @param {ConnectionState} state
 */
function showJoining(state) {
  if (!page.join.open) return;
  page.joinButton.disabled = state.state === "connecting";
  page.joinButton.textContent = state.state === "connecting" ? "Joining…" : "Join";
  if (state.state !== "reconnecting") return;
  complain(undefined, `${state.reason || "The server does not answer."} Still trying.`);
}

/** @param {string} words */
function showTrouble(words) {
  page.trouble.hidden = words === "";
  page.troubleWords.textContent = words;
}

/** What the page says about the room before anything is said in it. */
function showPlace() {
  const isSecret = isEncrypted(place);
  const trouble = keyTrouble();
  page.roomName.textContent = titleOf(place.room);
  page.lock.toggleAttribute("hidden", !isSecret);
  page.about.hidden = !isSecret;
  page.about.textContent = trouble ? "No key" : "Encrypted";
  page.emptyAbout.hidden = !isSecret || trouble !== "";
  // A link without its key helps nobody.
  page.copy.hidden = page.invite.hidden = trouble !== "";
  page.emptyTitle.textContent = isSecret ? "This room is encrypted" : "Nothing said here yet";
  page.emptyWords.textContent = trouble ||
    (isSecret
      ? "Only people with the link can read what is written here. Send it to those you want to talk to."
      : "Say hello, or send the link to someone you would like to talk to.");
  composer.closedBecause = trouble ? "You need the whole link to write here" : "";
  showTitle();
}

/** What one may do here, and whether others may come in. */
function showRole() {
  const { role, isPrivate, room } = connection ?? { role: "member", isPrivate: false, room: "" };
  const isModerator = role !== "member";
  log.moderated = people.mayRemove = isModerator;
  page.membersOnly.hidden = !isPrivate;
  page.settings.hidden = room === "";
  const mayChange = role === "owner" || role === "admin";
  page.settingsWords.textContent = mayChange ? "Room settings" : "About this room";
}

/** Why what is said in this room can be neither read nor written; nothing if it can. */
function keyTrouble() {
  if (!isEncrypted(place)) return "";
  if (!isKey(place.key)) return NO_KEY;
  return canSeal() ? "" : NO_CRYPTO;
}

function showTitle() {
  const count = unread ? `(${unread}) ` : "";
  document.title = connection ? `${count}${titleOf(connection.room)} · Hubbub` : "Hubbub";
}

// ---- What the server says ------------------------------------------------------------------------

/** @param {readonly Told[]} events */
function receive(events) {
  for (const event of events) receiveOne(event);
  page.empty.hidden = log.size > 0;
}

/** @param {Told} event */
function receiveOne(event) {
  switch (event.type) {
    case "welcome":
      showRole();
      if (!event.recovered) log.setOlder(event.seq > 0);
      typists.clear();
      for (const name of event.typing) {
        if (!isSameName(name, event.username)) typists.add(name);
      }
      return showTyping();
    case "chat":
    case "dm":
      return receiveMessage(event);
    case "message_updated": {
      const { id, content: text } = event;
      return log.change(id, { text, edited: true, ...sealOf(event) });
    }
    case "message_deleted":
      return log.change(event.id, { text: "", deleted: true });
    case "user_joined":
    case "user_left": {
      const isSelf = isSameName(event.username, connection?.username ?? "");
      if (event.type === "user_left") stopTyping(event.username);
      if (!isSelf) log.addNotice(event.username, event.type === "user_left" ? "left" : "joined");
      return;
    }
    case "typing": {
      if (isSameName(event.username, connection?.username ?? "")) return;
      if (event.active) typists.add(event.username);
      else typists.delete(event.username);
      return showTyping();
    }
    case "error":
      // Too fast can be here what nobody needs to know of: that one types. A message waits by itself.
      if (event.code !== "rate_limited") composer.hint(event.content);
      return;
  }
}

/** @param {Extract<Told, { type: "chat" | "dm" }>} event */
function receiveMessage(event) {
  const message = toMessage(event);
  const isOld = event.history === true;
  const isNews = !message.own && !isOld;
  const isUnseen = isNews && document.hidden;
  if (!log.add(message, { isOld: isOld && event.type === "dm", isFresh: isUnseen })) return;
  stopTyping(message.author);
  if (!isNews) return;
  announce(lineOf(message));
  if (isUnseen) {
    unread++;
    showTitle();
    if (message.mention || message.to) notify(message);
  }
  if (!log.following) showNewer(newer + 1);
}

/**
 * @param {Extract<Told, { type: "chat" | "dm" }>} event
 * @returns {Message}
 */
function toMessage(event) {
  const own = isSameName(event.username, connection?.username ?? "");
  return {
    id: event.id,
    at: dateOf(event.timestamp),
    author: event.username,
    text: event.content,
    own,
    status: "sent",
    mention: !own && event.type === "chat" && mention.test(event.content),
    ...(event.type === "chat"
      ? { seq: event.seq, edited: event.edited === true, deleted: event.deleted === true }
      : { to: event.to }),
    ...sealOf(event),
  };
}

/** @param {Told} event @returns {Pick<Message, "seal">} */
function sealOf({ seal, content }) {
  if (seal) return { seal };
  return !cipher && isSealed(content) ? { seal: "locked" } : {};
}

/** @param {Outgoing} item */
function showOutgoing({ ref, content, to, status, reason, ack }) {
  const news = { status, reason: reason || "" };
  if (ack) {
    const { id = "", seq, timestamp = "" } = ack;
    log.settle(ref, { ...news, id, at: dateOf(timestamp), ...(seq !== undefined && { seq }) });
  } else if (shown.has(ref)) log.settle(ref, news);
  else {
    shown.add(ref);
    log.add({
      ref,
      at: new Date(),
      author: connection?.username ?? "",
      text: content,
      own: true,
      ...news,
      ...(to !== undefined && { to }),
    });
  }
  if (status === "failed") announce(`Not sent: ${content}. ${reason}`);
  if (connection?.state.state === "live") {
    const held = connection.unsent.find((item) => item.status === "waiting" && item.reason !== "");
    showTrouble(held?.reason ?? "");
  }
  keepPlace();
}

/** @param {{ isNewLife: boolean }} gap */
function showGap({ isNewLife }) {
  if (!isNewLife) return log.addGap("Some messages sent while you were away may be missing here");
  log.makeStale();
  log.addGap("The server started anew. Messages sent while you were away may be missing here");
}

async function loadOlder() {
  const asked = connection;
  const before = log.oldestSeq;
  if (!asked || before === undefined || before <= 1) return log.setOlder(false);
  try {
    const { messages, more } = await asked.history({ before, limit: 50 });
    if (asked !== connection) return;
    log.addOlder(messages.map((event) => toMessage(/** @type {any} */ (event))), more);
  } catch {
    // It is asked for again when the reader scrolls again.
    if (asked === connection) log.setOlder(true);
  }
}

/** @param {string} name */
function stopTyping(name) {
  if (typists.delete(name)) showTyping();
}

function showTyping() {
  const who = [...typists];
  page.typing.textContent = who.length === 0
    ? ""
    : `${listOf(who)} ${who.length === 1 ? "is" : "are"} typing…`;
}

/** @param {number} count */
function showNewer(count) {
  newer = count;
  page.newer.hidden = count === 0;
  page.newerWords.textContent = count === 1 ? "1 new message" : `${count} new messages`;
}

/** @param {Message} message */
function lineOf({ author, text, to, seal }) {
  const words = seal === "broken" || seal === "locked" ? "a message that cannot be read" : text;
  return `${author}${to ? " privately" : ""}: ${words}`;
}

/**
 * Has new lines read out, and not so many at once that nobody can follow.
 *
 * @param {string} line
 */
function announce(line) {
  toAnnounce.push(line);
  announcing ??= setTimeout(() => {
    announcing = undefined;
    const lines = toAnnounce.length > MAX_ANNOUNCED
      ? [`${toAnnounce.length} new messages`]
      : toAnnounce;
    page.announcer.replaceChildren(...lines.map((line) => element("p", "", line)));
    toAnnounce = [];
  }, ANNOUNCE_MS);
}

/** @param {string} username */
function mentionOf(username) {
  const name = username.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_])@?${name}(?![\\p{L}\\p{N}_])`, "iu");
}

/** @param {Message} message */
function notify({ author, text, to, id }) {
  if (!browser.notifies || globalThis.Notification?.permission !== "granted") return;
  const title = to ? `${author}, privately` : `${author} in ${titleOf(place.room)}`;
  try {
    const note = new Notification(title, { body: text, icon: "/favicon.svg", tag: id ?? "" });
    note.addEventListener("click", () => {
      globalThis.focus();
      note.close();
    });
  } catch { /* Some phones have the class and no use of it. */ }
}

// ---- What one writes -----------------------------------------------------------------------------

/**
 * @param {string} text
 * @param {Mode} mode
 * @returns {boolean} whether it was taken
 */
function submit(text, mode) {
  if (!connection) return false;
  if (mode.type === "edit") {
    change(connection.edit(mode.id, text));
    return true;
  }
  const line = readLine(text, connection.roster.names);
  switch (line.type) {
    case "say":
      if (mode.type === "whisper") connection.whisper(mode.to, line.text);
      else connection.send(line.text);
      log.forgetFresh();
      log.toEnd();
      break;
    case "whisper":
      connection.whisper(line.to, line.text);
      log.toEnd();
      break;
    case "nick":
      return rename(line.name);
    case "who":
      showWho();
      break;
    case "help":
      showHelp();
      break;
    case "wrong":
      composer.hint(line.why);
      return false;
  }
  for (const item of connection.unsent) if (!shown.has(item.ref)) showOutgoing(item);
  page.empty.hidden = true;
  return true;
}

/** @param {string} name */
function rename(name) {
  if (connection?.state.state !== "live" || connection.unsent.length > 0) {
    composer.hint("You can change your name when you are connected and all is sent.");
    return false;
  }
  go(place, name);
  return true;
}

function showWho() {
  const { names, online, unknown } = connection?.roster ?? { names: [], online: 0, unknown: 0 };
  const rest = unknown > 0 ? `, and ${unknown.toLocaleString()} more` : "";
  const title = online === 1 ? "You are alone here" : `${online.toLocaleString()} people here`;
  showCard(title, element("p", "", names.join(", ") + rest));
}

function showHelp() {
  const rows = HELP.flatMap(([command, what]) => [
    element("dt", "", element("code", "", command)),
    element("dd", "", what),
  ]);
  showCard("What you can type", element("dl", "", ...rows));
}

/** @param {string} title @param {HTMLElement} body */
function showCard(title, body) {
  const only = element("small", "mark", "Only you see this");
  log.addCard(element("div", "note", element("h2", "", title, " ", only), body));
  log.toEnd();
}

/** @param {Message} message */
function askToDelete({ id, text }) {
  page.askQuote.textContent = text;
  page.ask.returnValue = "";
  page.ask.showModal();
  page.ask.addEventListener("close", () => {
    if (page.ask.returnValue === "yes" && connection) change(connection.delete(id ?? ""));
    composer.focus();
  }, { once: true });
}

/** Says so when a message could not be changed. @param {Promise<unknown>} done */
async function change(done) {
  try {
    await done;
  } catch (error) {
    toast(error instanceof Error ? error.message : String(error));
  }
}

// ---- The link, and other small things ------------------------------------------------------------

async function copyLink() {
  try {
    // There is no clipboard on plain http, other than on localhost.
    await navigator.clipboard.writeText(new URL(addressOf(place), location.href).href);
    toast(isEncrypted(place) ? "Encrypted room's link copied" : "Link copied");
  } catch {
    toast("Please copy the link from the address bar");
  }
}

/** @param {string} words */
function toast(words) {
  clearTimeout(toasting);
  // Shown anew, it is above a dialog that was opened since.
  if (page.toast.matches(":popover-open")) page.toast.hidePopover();
  page.toast.showPopover();
  page.toast.textContent = words;
  toasting = setTimeout(() => {
    page.toast.replaceChildren();
    page.toast.hidePopover();
  }, TOAST_MS);
}

/** What a reload comes back to. */
function keepPlace() {
  if (!connection || !hasArrived) return;
  const { room, username } = connection;
  const unsent = connection.unsent.filter(({ status }) => status !== "failed")
    .map(({ ref, content, to }) => ({ ref, content, ...(to !== undefined && { to }) }));
  tab.place = { room, username, unsent };
}

function openSettings() {
  if (page.menu.matches(":popover-open")) page.menu.hidePopover();
  if (connection) settingsDialog.open(connection, me.username);
}

async function toggleNotify() {
  if (browser.notifies) {
    browser.notifies = false;
  } else if (!globalThis.Notification) {
    toast("This browser has no notifications");
  } else if (await Notification.requestPermission() === "granted") {
    browser.notifies = true;
    toast("You will be notified while this page is in the background");
  } else {
    toast("Your browser does not allow notifications here");
  }
  showNotify();
}

function showNotify() {
  const isOn = browser.notifies && globalThis.Notification?.permission === "granted";
  page.notify.ariaPressed = String(isOn);
}

function showTheme() {
  document.documentElement.style.colorScheme = browser.theme || "light dark";
  for (const radio of page.menu.querySelectorAll("input")) {
    radio.checked = radio.value === browser.theme;
  }
}

/** @param {string} value */
function asTheme(value) {
  return value === "light" || value === "dark" ? value : "";
}

/** @param {string} timestamp */
function dateOf(timestamp) {
  const at = new Date(timestamp);
  return Number.isNaN(at.getTime()) ? new Date() : at;
}

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function get(id, type) {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`The page has no ${type.name} called "${id}".`);
}

// ---- Events and start ------------------------------------------------------------------------------

page.joinForm.addEventListener("submit", (event) => {
  event.preventDefault();
  page.joinReason.textContent = "";
  submitJoin(askedPlace());
});
get("join-sign-in", HTMLButtonElement).addEventListener("click", () => {
  askToSignIn({ name: page.name.value });
});
get("join-register", HTMLButtonElement).addEventListener("click", () => {
  askToSignIn({ name: page.name.value, isNew: true });
});
get("join-sign-out", HTMLButtonElement).addEventListener("click", leaveAccount);
get("sign-out", HTMLButtonElement).addEventListener("click", leaveAccount);
page.signIn.addEventListener("click", () => {
  page.room.value = place.room;
  page.roomField.hidden = isEncrypted(place);
  askToSignIn();
});
page.accountGuest.addEventListener("click", () => {
  if (connection?.state.state === "live") page.join.close();
  else askToJoin();
});
page.settings.addEventListener("click", openSettings);
page.membersOnly.addEventListener("click", () => {
  if (connection?.role === "member") toast(MEMBERS_ONLY);
  else openSettings();
});
page.joinPrivate.addEventListener("click", () => submitJoin(newEncryptedPlace()));
page.joinCancel.addEventListener("click", () => page.join.close());
page.join.addEventListener("cancel", (event) => {
  // Escape has nowhere to go while there is no room behind the dialog.
  if (connection?.state.state !== "live") event.preventDefault();
});
page.join.addEventListener("close", () => {
  const state = connection?.state.state ?? "closed";
  if (state === "closed" || state === "refused") return page.join.showModal();
  candidate?.close();
  candidate = undefined;
  composer.focus();
});

page.copy.addEventListener("click", copyLink);
page.invite.addEventListener("click", copyLink);
for (const id of ["about", "empty-about"]) {
  get(id, HTMLButtonElement).addEventListener("click", () => page.privacy.showModal());
}
get("private", HTMLButtonElement).addEventListener("click", () => {
  page.menu.hidePopover();
  if (!canSeal()) return toast(NO_CRYPTO);
  if (connection) go(newEncryptedPlace(), me.username ?? connection.username);
});
get("switch", HTMLButtonElement).addEventListener("click", () => {
  askToJoin(page.switchWords.textContent ?? "");
  // From an encrypted room one can go elsewhere, but not by a name.
  page.roomField.hidden = false;
  if (isEncrypted(place)) page.room.value = DEFAULT_ROOM;
  page.joinIntro.textContent = me.username === null ? PICK : PICK_ROOM;
  (me.username === null ? page.name : page.room).focus();
});
get("leave", HTMLButtonElement).addEventListener("click", leave);
page.notify.addEventListener("click", toggleNotify);
get("theme", HTMLFieldSetElement).addEventListener("change", ({ target }) => {
  if (target instanceof HTMLInputElement) browser.theme = asTheme(target.value);
  showTheme();
});
page.newer.addEventListener("click", () => {
  log.toEnd();
  composer.focus();
});
page.retry.addEventListener("click", () => {
  connection?.retry();
  composer.focus();
});

addEventListener("online", () => connection?.check());
addEventListener("popstate", followAddress);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return log.forgetFresh();
  connection?.check();
  unread = 0;
  showTitle();
});
// A popover that is open while the window grows into the wide layout would float over its column.
matchMedia("(width >= 52rem)").addEventListener("change", () => {
  if (page.people.matches(":popover-open")) page.people.hidePopover();
});

showTheme();
showNotify();
page.name.value = tab.place?.username || browser.name;
showPlace();
await learnSession();
const last = tab.place;
if (last?.room === place.room) go(place, me.username ?? last.username, last.unsent);
else askToJoin();
