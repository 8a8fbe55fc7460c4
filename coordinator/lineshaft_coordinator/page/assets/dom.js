// Builds elements. Text is always text: nothing that a job wrote is ever parsed as HTML.

/** h("a", {href: "#/", class: "x", onclick: f}, "text", element, null) */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replace what is in an element, unless it shows just that already. */
export function show(element, ...children) {
  const next = h("div", null, ...children);
  if (next.innerHTML === element.dataset.shown) return;
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  element.dataset.shown = next.innerHTML;
  element.replaceChildren(...next.childNodes);
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

let toastTimer = 0;

export function toast(text, isBad = false) {
  const element = document.getElementById("toast");
  // A dialog covers all that is not in it.
  (document.querySelector("dialog[open]") ?? document.body).append(element);
  element.textContent = text;
  element.className = isBad ? "bad" : "";
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}
