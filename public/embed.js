// A button that opens a chat room: docs/embed.md
// deno-lint-ignore-file no-console
{
  const { src, dataset } = document.currentScript;
  const { room, theme = "", label = "Chat", open } = dataset;
  const url = new URL(`r/${encodeURIComponent(room || "lobby")}`, src);

  const add = (parent, tag, props) =>
    parent.appendChild(Object.assign(document.createElement(tag), props));
  const host = document.createElement("hubbub-chat");
  const root = host.attachShadow({ mode: "open" });
  const button = add(root, "button", { textContent: label, ariaExpanded: false });
  const unread = add(button, "span");
  const panel = add(root, "div", { hidden: true });
  const sorry = add(panel, "p", { hidden: true, textContent: "The chat cannot be shown here. " });
  add(sorry, "a", { href: url, target: "_blank", rel: "noopener", textContent: "Open it alone" });
  const frame = add(panel, "iframe", { hidden: true, title: label, allow: "clipboard-write" });

  // No Content-Security-Policy blocks such a sheet.
  const sheet = new CSSStyleSheet();
  root.adoptedStyleSheets = [sheet];
  sheet.replaceSync(`
button, div { position: fixed; z-index: 9999; right: 1rem; font: 600 1rem system-ui;
  border: 1px solid #8888; box-shadow: 0 4px 20px #0005 }
button { bottom: calc(1rem + var(--up)); padding: .6em 1.25em;
  border-radius: 2em; color: #fff; background: #00696b }
div { bottom: calc(4.75rem + var(--up)); width: min(24rem, 100vw - 2rem);
  height: min(36rem, 100vh - 6rem - var(--up)); border-radius: .75rem; overflow: hidden;
  color: light-dark(#222, #eee); background: light-dark(#fff, #222) }
iframe { width: 100%; height: 100%; border: 0 }
p { margin: 1em }
[aria-expanded=true]::before { content: "✕ " / "" }`);

  let isReady;
  const tell = () => frame.contentWindow.postMessage({ isOpen: !panel.hidden }, url.origin);
  const show = (isOpen) => {
    panel.hidden = !isOpen;
    button.ariaExpanded = isOpen;
    if (isOpen) frame.src ||= `${url}?embed=1&theme=${theme}`;
    if (isReady) tell();
    if (!isOpen) button.focus();
  };
  button.onclick = () => show(panel.hidden);
  host.onkeydown = ({ key }) => {
    if (key === "Escape") show(false);
  };
  addEventListener("message", ({ source, origin, data }) => {
    if (source !== frame.contentWindow || origin !== url.origin) return;
    const { hubbub, count } = data;
    if (hubbub === "close") show(false);
    if (hubbub === "unread") unread.textContent = count ? ` (${count} new)` : "";
    if (hubbub !== "ready") return;
    isReady = sorry.hidden = true;
    frame.hidden = false;
    tell();
  });
  // A refused frame loads, too. A ready page says so.
  frame.onload = () =>
    frame.src && setTimeout(() => {
      if (isReady) return;
      sorry.hidden = false;
      console.warn(`EMBED_ORIGINS of ${src} lacks ${origin}`);
    }, 2000);

  const { length } = document.querySelectorAll("hubbub-chat");
  host.style = `color-scheme: ${theme || "light dark"}; --up: ${3.5 * length}rem`;
  document.documentElement.append(host);
  if (open !== undefined) show(true);
}
