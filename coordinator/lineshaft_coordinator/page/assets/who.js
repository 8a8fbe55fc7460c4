// Who looks at the page, and what they may do. Nothing is allowed before the coordinator has said so; it decides
// again about each request, so hiding a button is a courtesy and no wall.
import { get, token } from "./api.js";
import { h } from "./dom.js";

const ROLE = document.getElementById("role");
let asked = null, me = null; // the token that was asked about, and the answer

/** Ask once for each token; fails as any question does. */
export async function known() {
  if (me && asked === token()) return;
  me = null;
  asked = token();
  me = await get("api/v1/me");
  ROLE.replaceChildren(...(may("control") ? [] : [h("span", { class: "long" }, "signed in as "), me.role]));
}

export const isKnown = () => me !== null;
export const may = (permission) => me?.permissions.includes(permission) ?? false;
