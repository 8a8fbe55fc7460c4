// A row of tabs: arrows go from one to the next, and only the chosen one is reached with the tab key.
import { h } from "./dom.js";

export function tabList(label, names, open) {
  const buttons = names.map((name) => h("button", {
    role: "tab", type: "button", id: `tab-${name}`, "aria-controls": "panel", onclick: () => open(name) }, name));
  const element = h("div", { role: "tablist", class: "tabs", "aria-label": label }, ...buttons);
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const shown = buttons.filter((button) => !button.hidden);
    const next = shown[(shown.indexOf(event.target) + step + shown.length) % shown.length];
    next.focus();
    next.click();
  });
  return {
    element,
    button: (name) => buttons[names.indexOf(name)],
    /** Say which one is chosen, and that the panel is its. */
    mark(chosen, panel) {
      for (const [index, button] of buttons.entries()) {
        button.setAttribute("aria-selected", String(names[index] === chosen));
        button.tabIndex = names[index] === chosen ? 0 : -1;
      }
      panel.setAttribute("aria-labelledby", `tab-${chosen}`);
    },
  };
}
