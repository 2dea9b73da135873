// The choice of demo users on the page where one logs in.

import { avatar, byId, element } from "./dom.js";

// showDemoUsers shows a button for each demo user. onChoose is given the key.
export function showDemoUsers(users, onChoose) {
  byId("demo").hidden = users.length === 0;
  byId("demo-users").replaceChildren(...users.map(({ name, key }) =>
    element("button", { type: "button", "data-name": name, onclick: () => onChoose(key) }, avatar(name), name)));
}
