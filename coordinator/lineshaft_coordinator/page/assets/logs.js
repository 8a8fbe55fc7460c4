// run.log and console.log beside each other, as they grow.
import { get } from "./api.js";
import { h } from "./dom.js";

const KEPT = 400_000; // characters of each in the page; the file has all
const PIECES = 4; // asked for in one turn

/**
 * `address` makes addresses of what is asked about the run; `sizes` tells how long its files are, by name.
 */
export function logsPane(address, sizes, signal, saveFile) {
  const files = ["run.log", "console.log"].map((name) => textFile(name, address, sizes, signal, saveFile));
  return {
    element: h("div", { class: "logs" }, ...files.map((file) => file.element)),
    async update(facts) { await Promise.all(files.map((file) => file.update(facts))); },
  };
}

function textFile(name, address, sizes, signal, saveFile) {
  const pre = h("pre", { class: "output", tabindex: "0", "aria-label": name });
  const follow = h("input", { type: "checkbox", checked: true });
  const note = h("small", { class: "note" });
  let offset = null, length = 0, isCut = false;
  function add(text) {
    if (isCut && !length) text = text.slice(text.indexOf("\n") + 1); // it begins somewhere in a line
    pre.append(h("span", null, text));
    length += text.length;
    while (length > 2 * KEPT && pre.childNodes.length > 1) {
      length -= pre.firstChild.textContent.length;
      pre.firstChild.remove();
      isCut = true;
    }
  }
  return {
    element: h("section", { "aria-label": name }, h("div", { class: "filters" }, h("b", null, name), h("label", null, follow, " follow"),
      h("button", { type: "button", onclick: () => saveFile(name) }, "Download"), note), pre),
    async update(facts) {
      if (offset === null) {
        const size = (await sizes()).get(name) ?? 0;
        offset = Math.max(0, size - KEPT);
        isCut = offset > 0;
      }
      let isNew = false;
      for (let turn = 0; turn < PIECES; turn += 1) {
        const found = await get(address("text", { file: name, offset }), signal);
        if (!found.text) break;
        add(found.text);
        offset = found.offset;
        isNew = true;
      }
      note.textContent = isCut ? "the beginning is left out" : length ? "" : facts.status === "RUNNING" ? "nothing so far" : "it is empty";
      if (isNew && follow.checked) pre.scrollTop = pre.scrollHeight;
    },
  };
}
