// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Creates and finds elements of the page.
 *
 * @module
 */

/** Maximum names in a sentence; the others are counted. */
const MAX_NAMED = 3;

const names = new Intl.ListFormat("en");
const graphemes = new Intl.Segmenter();

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function get(id, type) {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`The page has no ${type.name} called "${id}".`);
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} className
 * @param {(Node | string)[]} children Strings become text, never markup.
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * @param {string} className
 * @param {string} label
 * @param {() => void} onClick
 * @param {string} [iconName]
 */
export function button(className, label, onClick, iconName) {
  const made = element("button", className);
  made.type = "button";
  made.addEventListener("click", onClick);
  if (!iconName) {
    made.append(label);
    return made;
  }
  made.title = made.ariaLabel = label;
  made.append(icon(iconName));
  return made;
}

/** @param {string} name */
export function icon(name) {
  const template = document.getElementById(`icon-${name}`);
  if (!(template instanceof HTMLTemplateElement)) throw new Error(`There is no icon "${name}".`);
  const [picture] = template.content.children;
  return /** @type {Element} */ (picture).cloneNode(true);
}

/**
 * A person's avatar: the first letter of the name on the person's colour. The style sheet draws the
 * letter, so that copied text does not contain it.
 *
 * @param {string} username
 */
export function avatar(username) {
  const [first] = graphemes.segment(username);
  const mark = element("span", "avatar");
  mark.dataset.letter = (first?.segment ?? "?").toUpperCase();
  mark.setAttribute("aria-hidden", "true");
  setHue(mark, username);
  return mark;
}

/**
 * Sets the hue of a name, the same on every screen. The style sheet picks a readable lightness.
 *
 * @param {HTMLElement} target
 * @param {string} username
 */
export function setHue(target, username) {
  let hash = 1;
  for (const character of username) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x85ebca6b);
    hash ^= hash >>> 13;
  }
  target.style.setProperty("--hue", String((hash >>> 0) % 360));
}

/** @param {string[]} who */
export function listOf(who) {
  if (who.length <= MAX_NAMED + 1) return names.format(who);
  return names.format([...who.slice(0, MAX_NAMED), `${who.length - MAX_NAMED} others`]);
}
