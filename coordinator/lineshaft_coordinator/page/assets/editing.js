// Changing what people say of a run or an experiment.
import { ApiError, patch } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, toast } from "./dom.js";

/**
 * Ask for new values and send those that differ.
 * A field is {name, label, value, max, kind: "line" | "notes" | "tags", stored}: `stored` is what a change is measured by, if it is not `value`.
 */
export function edit(title, path, fields, signal, onsaved) {
  const inputs = fields.map((field) => inputOf(field));
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const save = h("button", { type: "submit" }, "Save");
  const form = h("form", { class: "edit", onsubmit: (event) => { event.preventDefault(); send(); } },
    ...fields.map((field, index) => h("div", { class: "field" },
      h("label", { for: `edit-${field.name}` }, field.label), inputs[index],
      field.kind === "tags" ? h("small", { class: "note" }, "one a line") : null)),
    problem, h("div", { class: "actions" }, save, h("button", { type: "button", onclick: () => dialog.close() }, "Leave as it is")));
  async function send() {
    const changes = changesOf(fields, inputs);
    if (!Object.keys(changes).length) { dialog.close(); return; }
    save.disabled = true;
    try {
      await patch(path, changes);
      dialog.close();
      toast("saved");
      await onsaved();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      problem.textContent = error.message;
      problem.hidden = false;
    } finally { save.disabled = false; }
  }
  const dialog = openDialog(title, form, signal, "narrow");
  inputs[0].focus();
}

function inputOf({ name, kind, value, max }) {
  const id = `edit-${name}`;
  if (kind === "line") {
    const input = h("input", { id, maxlength: max, autocomplete: "off" });
    input.value = value ?? "";
    return input;
  }
  const area = h("textarea", { id, rows: kind === "tags" ? 3 : 6, maxlength: max });
  area.value = kind === "tags" ? value.join("\n") : value ?? "";
  return area;
}

function changesOf(fields, inputs) {
  const changes = {};
  for (const [index, { name, kind, value, stored }] of fields.entries()) {
    const before = stored === undefined ? value : stored;
    if (kind === "tags") {
      const tags = [...new Set(inputs[index].value.split("\n").map((tag) => tag.trim()).filter(Boolean))];
      if (tags.join("\n") !== before.join("\n")) changes[name] = tags;
    } else {
      const text = kind === "line" ? inputs[index].value.trim() : inputs[index].value;
      if (text !== (before ?? "")) changes[name] = text;
    }
  }
  return changes;
}
