// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Builds the row of one message. Whatever people wrote enters the page as text nodes only.
 *
 * @module
 */

import { avatar, button, element, icon, setHue } from "./dom.js";
import { readText } from "./text.js";
import { isChangeable, isUnreadable } from "./timeline.js";

/** @import { Message, MessageEntry } from "./timeline.js" */
/** @import { Run } from "./text.js" */

/**
 * What the reader wants of a message.
 *
 * @typedef {object} MessageWishes
 * @property {(message: Message) => void} onReply
 * @property {(message: Message) => void} onEdit
 * @property {(message: Message) => void} onDelete
 * @property {(message: Message) => void} onRetry To send it again.
 * @property {(message: Message) => void} onDiscard To give up sending it.
 * @property {(message: Message) => void} onEditAgain To take up a change that was not saved.
 * @property {(message: Message) => void} onDiscardChange To give up such a change.
 * @property {(name: string) => void} onWhisper
 * @property {(id: string) => void} onJump To see another message, or this one, in its place.
 * @property {(message: Message) => string} linkTo The address of a message.
 * @property {(text: string) => void} onCopy
 */

/**
 * What a row shows beside its message.
 *
 * @typedef {object} Context
 * @property {boolean} isModerated The reader may delete what others said.
 * @property {(id: string) => Message | undefined} find
 */

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const fullDate = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" });

/** Characters of a quotation. The style sheet cuts it to its line. */
const QUOTE_LENGTH = 200;

const BROKEN =
  "This message cannot be read: your link has another key, or it was changed on its way.";
const LOCKED = "Encrypted. Open the room with its whole link to read this.";
const REPLAYED = "The server sent an earlier message again, in this place. It is not shown twice.";

/** More marks on a letter than any language writes: they would reach into other rows. */
const PILED = /\p{M}{4}/u;

/** Rows get numbers, so that parts of them can be named. */
let made = 0;

/**
 * Fills the row of a message.
 *
 * @param {HTMLElement} row
 * @param {MessageEntry} message
 * @param {MessageWishes} wishes
 * @param {Context} context
 */
export function fillMessage(row, message, wishes, context) {
  const { author, to, own, status, id } = message;
  const header = headerOf(message, wishes);
  const bubble = bubbleOf(message, wishes, context);
  const article = element("article", "");
  article.tabIndex = -1;
  if (!own) article.append(avatar(author));
  article.append(header, bubble);
  // Made when somebody comes near: most messages are only read.
  for (const approach of ["pointerenter", "focusin"]) {
    article.addEventListener(approach, () => {
      if (article.querySelector(".tools")) return;
      const tools = toolsOf(message, wishes, context);
      if (tools.length > 0) header.before(element("div", "tools", ...tools));
    }, { once: true });
  }
  if (id === undefined) article.append(progressOf(message, wishes));
  if (message.change) article.append(changeOf(message, wishes));
  // Who walks from message to message hears all of each: the marks, too.
  header.id = `header-${++made}`;
  bubble.id = `bubble-${made}`;
  article.setAttribute("aria-labelledby", `${header.id} ${bubble.id}`);
  setHue(article, author);
  row.dataset.status = status;
  row.className = Object.entries({
    message: true,
    own,
    private: to !== undefined,
    mention: message.mention === true,
    action: isAction(message),
    piled: PILED.test(message.text),
    dim: message.deleted === true || isUnreadable(message),
  }).filter(([, isSo]) => isSo).map(([name]) => name).join(" ");
  row.replaceChildren(article);
}

/** Whether it says what somebody does. @param {Message} message */
export function isAction(message) {
  return !message.deleted && !isUnreadable(message) && message.text.startsWith("/me ");
}

/** @param {MessageEntry} message @param {MessageWishes} wishes */
function headerOf(message, wishes) {
  const author = element("strong", "author", message.author);
  author.dir = "auto";
  const header = element("header", "", author);
  if (message.to !== undefined) header.append(privateTag(message, wishes));
  header.append(timeOf(message, wishes));
  return header;
}

/**
 * The time of a message: a link to it, once the server has it.
 *
 * @param {MessageEntry} message
 * @param {MessageWishes} wishes
 */
function timeOf(message, wishes) {
  const { at, id, seq, stale } = message;
  // It breaks where there is little room: some languages have spaces that do not.
  const time = element("time", "", clock.format(at).replace(/\s/g, " "));
  time.dateTime = at.toISOString();
  time.title = fullDate.format(at);
  if (id === undefined || seq === undefined || stale) return time;
  const link = element("a", "when", time);
  link.href = wishes.linkTo(message);
  link.tabIndex = -1;
  link.addEventListener("click", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    wishes.onJump(id);
  });
  return link;
}

/** @param {MessageEntry} message @param {MessageWishes} wishes */
function privateTag({ own, author, to = "" }, wishes) {
  if (own) {
    const name = element("bdi", "", to);
    return element("span", "tag", "only to ", name);
  }
  const answer = button("tag", "only to you", () => wishes.onWhisper(author));
  answer.title = "Answer privately";
  return answer;
}

/** @param {MessageEntry} message @param {MessageWishes} wishes @param {Context} context */
function toolsOf(message, wishes, { isModerated }) {
  const { id, to, deleted, stale } = message;
  if (id === undefined || to !== undefined || deleted || stale) return [];
  const tools = [];
  if (isChangeable(message)) {
    tools.push(button("tool", "Edit", () => wishes.onEdit(message), "edit"));
  }
  if (isChangeable(message) || isModerated) {
    tools.push(button("tool", "Delete", () => wishes.onDelete(message), "delete"));
  }
  tools.push(button("tool", "Reply", () => wishes.onReply(message), "reply"));
  return tools;
}

/** @param {MessageEntry} message @param {MessageWishes} wishes @param {Context} context */
function bubbleOf(message, wishes, { find }) {
  const text = element("div", "text", ...wordsOf(message, wishes));
  text.dir = "auto";
  const bubble = element("div", "bubble");
  if (message.replyTo !== undefined && !message.deleted) {
    bubble.append(quoteOf(message.replyTo, find(message.replyTo), wishes));
  }
  bubble.append(text);
  if (message.edited && !message.deleted) bubble.append(" ", element("small", "mark", "edited"));
  if (message.seal === "bare") {
    bubble.append(" ", element("small", "mark warn", "not encrypted"));
  }
  return bubble;
}

/**
 * What a message answers.
 *
 * @param {string} id
 * @param {Message | undefined} answered Nothing where it is not loaded.
 * @param {MessageWishes} wishes
 */
function quoteOf(id, answered, wishes) {
  const quote = button("quote", "", () => wishes.onJump(id));
  quote.title = "Go to this message";
  quote.tabIndex = -1;
  if (!answered) quote.append("an earlier message");
  else if (answered.deleted) quote.append("a deleted message");
  else {
    const author = element("b", "", answered.author);
    author.dir = "auto";
    setHue(author, answered.author);
    const line = element("span", "", firstLine(answered));
    line.dir = "auto";
    quote.append(author, " ", line);
  }
  return quote;
}

/** The first line of a message, for a quotation. @param {Message} message */
export function firstLine(message) {
  if (isUnreadable(message)) return "a message that cannot be read";
  const text = isAction(message) ? message.text.slice(4) : message.text;
  const [line = ""] = text.trim().split("\n", 1);
  return line.slice(0, QUOTE_LENGTH);
}

/** @param {MessageEntry} message @param {MessageWishes} wishes @returns {(Node | string)[]} */
function wordsOf(message, wishes) {
  if (message.deleted) return ["Message deleted"];
  if (message.seal === "broken") return [icon("lock"), BROKEN];
  if (message.seal === "locked") return [icon("lock"), LOCKED];
  if (message.seal === "replayed") return [icon("lock"), REPLAYED];
  if (!isAction(message)) return readText(message.text).map((run) => nodeOf(run, wishes));
  const author = element("b", "", message.author);
  author.dir = "auto";
  return [author, " ", ...readText(message.text.slice(4)).map((run) => nodeOf(run, wishes))];
}

/** @param {Run} run @param {MessageWishes} wishes @returns {Node | string} */
function nodeOf(run, wishes) {
  switch (run.type) {
    case "text":
      return run.text;
    case "code":
      return element("code", "", run.text);
    case "block":
      return blockOf(run.text, wishes);
    case "link": {
      const link = element("a", "", run.text);
      link.href = run.href;
      link.target = "_blank";
      link.rel = "noopener nofollow";
      return link;
    }
  }
}

/** @param {string} code @param {MessageWishes} wishes */
function blockOf(code, wishes) {
  const scroller = element("pre", "", element("code", "", code));
  scroller.dir = "ltr";
  // Code that is wider than its row is scrolled by the arrow keys, too.
  scroller.tabIndex = 0;
  const copy = button("tool copy", "Copy code", () => wishes.onCopy(code), "copy");
  copy.tabIndex = -1;
  return element("div", "block", scroller, copy);
}

/** @param {MessageEntry} message @param {MessageWishes} wishes */
function progressOf(message, wishes) {
  if (message.status !== "failed") {
    const label = message.status === "waiting" ? "Waiting to be sent" : "Sending";
    return element("p", "progress", label);
  }
  return element(
    "p",
    "progress failed",
    element("span", "", `Not sent. ${message.reason ?? ""}`),
    // What is sealed with another key cannot be sent from here.
    ...message.seal === "locked"
      ? []
      : [button("link", "Send again", () => wishes.onRetry(message))],
    button("link", "Discard", () => wishes.onDiscard(message)),
  );
}

/** An edit that the server has not taken yet. @param {MessageEntry} message @param {MessageWishes} wishes */
function changeOf(message, wishes) {
  const { text = "", status, reason = "" } = message.change ?? {};
  const words = element("q", "", text);
  words.dir = "auto";
  if (status !== "failed") {
    return element("p", "progress change", element("span", "", "Change waits to be sent: "), words);
  }
  return element(
    "p",
    "progress change failed",
    element("span", "", `Change not saved. ${reason} `),
    words,
    button("link", "Edit again", () => wishes.onEditAgain(message)),
    button("link", "Discard", () => wishes.onDiscardChange(message)),
  );
}
