// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Builds the row of one message. Texts of people enter the page as text nodes only.
 *
 * @module
 */

import { avatar, button, element, icon, setHue } from "./dom.js";
import { readText } from "./text.js";
import { isChangeable, isUnreadable } from "./timeline.js";

/** @import { Message, MessageEntry } from "./timeline.js" */
/** @import { Run } from "./text.js" */

/**
 * The reader's actions on a message.
 *
 * @typedef {object} MessageWishes
 * @property {(message: Message) => void} onReply
 * @property {(message: Message) => void} onEdit
 * @property {(message: Message) => void} onDelete
 * @property {(message: Message) => void} onRetry Sends it again.
 * @property {(message: Message) => void} onDiscard Gives up sending it.
 * @property {(message: Message) => void} onEditAgain Resumes an edit that failed.
 * @property {(message: Message) => void} onDiscardChange Gives up an edit that failed.
 * @property {(name: string) => void} onWhisper
 * @property {(id: string) => void} onJump Goes to a message.
 * @property {(message: Message) => string} linkTo The address of a message.
 * @property {(text: string) => void} onCopy
 */

/**
 * What a row depends on beside its message.
 *
 * @typedef {object} Context
 * @property {boolean} isModerated Whether the reader may delete messages of others.
 * @property {(id: string) => Message | undefined} find
 */

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const fullDate = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" });

/** Maximum characters of a quotation. The style sheet cuts it to one line. */
const QUOTE_LENGTH = 200;

const BROKEN =
  "This message cannot be read. Your link has another key, or someone changed it on its way.";
const LOCKED = "Encrypted. Open the room with its whole link to read this.";
const REPLAYED = "The server repeated an earlier message here. The repeat is not shown.";

/** More marks on a letter than any language uses: they would reach into other rows. */
const PILED = /\p{M}{4}/u;

/** Number of the newest row, for the ids of its parts. */
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
  // Created at the first hover or focus: most messages are only read.
  for (const approach of ["pointerenter", "focusin"]) {
    article.addEventListener(approach, () => {
      if (article.querySelector(".tools")) return;
      const tools = toolsOf(message, wishes, context);
      if (tools.length > 0) header.before(element("div", "tools", ...tools));
    }, { once: true });
  }
  if (id === undefined) article.append(progressOf(message, wishes));
  if (message.change) article.append(changeOf(message, wishes));
  // Screen readers read the whole message, its marks included.
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

/** Whether the message is an action (`/me`). @param {Message} message */
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
 * The time of a message: a link to it once the server has it.
 *
 * @param {MessageEntry} message
 * @param {MessageWishes} wishes
 */
function timeOf(message, wishes) {
  const { at, id, seq, stale } = message;
  // Plain spaces, so that it can wrap: some locales use no-break spaces.
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
 * The quotation of the answered message.
 *
 * @param {string} id
 * @param {Message | undefined} answered `undefined` if it is not loaded
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
  // Focusable, so that the arrow keys scroll code wider than its row.
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
    // A text sealed with another key cannot be sent from this page.
    ...message.seal === "locked"
      ? []
      : [button("link", "Send again", () => wishes.onRetry(message))],
    button("link", "Discard", () => wishes.onDiscard(message)),
  );
}

/** The line about an edit that the server has not stored. @param {MessageEntry} message @param {MessageWishes} wishes */
function changeOf(message, wishes) {
  const { text = "", status, reason = "" } = message.change ?? {};
  const words = element("q", "", text);
  words.dir = "auto";
  if (status !== "failed") {
    return element("p", "progress change", element("span", "", "Edit waiting to be sent: "), words);
  }
  return element(
    "p",
    "progress change failed",
    element("span", "", `Edit not saved. ${reason} `),
    words,
    button("link", "Edit again", () => wishes.onEditAgain(message)),
    button("link", "Discard", () => wishes.onDiscardChange(message)),
  );
}
