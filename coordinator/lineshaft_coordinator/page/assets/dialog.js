// Something that is looked at or filled in before all else: Escape closes it, and the focus goes back to where it was.
import { h } from "./dom.js";

/** Returns the dialog; it closes with the view that `signal` is of. */
export function openDialog(title, content, signal, kind = "") {
  const opener = document.activeElement, key = opener?.dataset?.key;
  const dialog = h("dialog", { class: kind, "aria-labelledby": "dialog-title" },
    h("header", null, h("h2", { id: "dialog-title" }, title),
      h("button", { type: "button", class: "quiet", "aria-label": "close", onclick: () => dialog.close() }, "✕")), content);
  const close = () => dialog.close();
  signal.addEventListener("abort", close, { once: true });
  dialog.addEventListener("close", () => {
    signal.removeEventListener("abort", close);
    const told = dialog.querySelector("#toast");
    if (told) document.body.append(told);
    dialog.remove();
    // What opened it may have been drawn anew meanwhile.
    const back = opener?.isConnected ? opener : key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (back) back.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
