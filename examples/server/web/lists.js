// RoomsView and PeopleView are the lists beside the messages. Each is one stop for the Tab key: the arrows lead through it.

import { arrange, avatar, byId, element, setText } from "./dom.js";

const findFrom = 10; // people from which on there is a field to find some
const presences = { here: "here", away: "away", gone: "not here" };

// List shows buttons. They stay the same elements while they are in the list, so that the focus does.
class List {
  constructor(id, onChoose) {
    this.list = byId(id);
    this.onChoose = onChoose;
    this.items = new Map(); // by key
    this.list.onkeydown = (event) => this.#move(event);
    this.list.replaceChildren();
  }

  // show shows entries: { key, makeIcon, name, note, state, unread, isCurrent }.
  show(entries) {
    const items = new Map();
    for (const entry of entries) items.set(entry.key, this.#itemOf(entry));
    this.items = items;
    arrange(this.list, [...items.values()]);
    this.#setStop();
  }

  #itemOf({ key, makeIcon, name, note, state, unread, isCurrent }) {
    const item = this.items.get(key) ?? this.#make(key, makeIcon(), name);
    const [button] = item.children;
    const badge = button.querySelector(".badge");
    item.className = `${state}${unread > 0 ? " unread" : ""}`;
    setText(button.querySelector(".note"), note);
    setText(badge, unread > 99 ? "99+" : String(unread || ""));
    setText(button.lastElementChild, unread > 0 ? " unread" : "");
    if (isCurrent) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    return item;
  }

  #make(key, icon, name) {
    return element("li", {}, element("button", { type: "button", "data-key": key, tabindex: "-1", onclick: () => this.onChoose(key) },
      icon, element("bdi", { class: "name" }, name), " ", element("span", { class: "note" }), " ", element("span", { class: "badge" }), element("span", { class: "unseen" })));
  }

  get #buttons() {
    return [...this.list.querySelectorAll("button")];
  }

  // #setStop has the Tab key stop at the button that has the focus, the one that is open, or the first one.
  #setStop(wanted = this.list.querySelector(":focus") ?? this.list.querySelector("[aria-current]")) {
    const buttons = this.#buttons;
    const stop = wanted ?? buttons.find((button) => button.tabIndex === 0) ?? buttons[0];
    for (const button of buttons) if (button.tabIndex !== (button === stop ? 0 : -1)) button.tabIndex = button === stop ? 0 : -1;
  }

  #move(event) {
    const buttons = this.#buttons;
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = buttons[Math.max(0, Math.min(to, buttons.length - 1))];
    this.#setStop(next);
    next.focus();
  }
}

export class RoomsView {
  constructor(model, session, onOpen) {
    this.model = model;
    const enter = async (name) => {
      try {
        await session.enterRoom(name);
        byId("room-name").value = "";
        setText(byId("room-error"), "");
        onOpen();
      } catch (error) {
        setText(byId("room-error"), `Not possible: ${error.message}.`);
      }
    };
    this.list = new List("rooms", (key) => enter(key.slice(1)));
    byId("room-form").onsubmit = (event) => {
      event.preventDefault();
      const name = byId("room-name").value.trim().toLowerCase().replace(/^#/, "").replace(/\s+/g, "-");
      if (name) enter(name);
    };
  }

  show() {
    const { rooms, joined, conversations, current } = this.model;
    const names = [...new Set(["lobby", ...joined, ...rooms])].sort((a, b) => (b === "lobby") - (a === "lobby") || a.localeCompare(b));
    this.list.show(names.map((name) => ({
      key: `#${name}`,
      makeIcon: () => element("span", { class: "hash", "aria-hidden": "true" }, "#"),
      name,
      note: joined.has(name) ? "" : "not joined",
      state: joined.has(name) ? "" : "other",
      unread: conversations.get(`#${name}`)?.unread ?? 0,
      isCurrent: current.key === `#${name}`,
    })));
    if (this.model.connection.name !== "connected") setText(byId("room-error"), "");
  }
}

export class PeopleView {
  constructor(model, session, onOpen) {
    this.model = model;
    this.list = new List("people", (key) => {
      byId("find").value = "";
      session.open(key);
      onOpen();
    });
    byId("find").value = "";
    byId("find").oninput = () => this.show();
  }

  show() {
    const { people, me, conversations, current, connection } = this.model;
    const isConnected = connection.name === "connected";
    const names = new Set(people.keys());
    for (const { isPrivate, name } of conversations.values()) if (isPrivate) names.add(name);
    names.delete(me);
    const presenceOf = (name) => (isConnected && people.get(name)) || "gone";
    const isGone = (name) => presenceOf(name) === "gone";
    const unreadOf = (name) => conversations.get(`@${name}`)?.unread ?? 0;
    const hasNone = (name) => unreadOf(name) === 0; // who has written comes first, however many there are
    const sorted = [...names].sort((a, b) => hasNone(a) - hasNone(b) || isGone(a) - isGone(b) || a.localeCompare(b));
    const wanted = byId("find").value.trim().toLowerCase();
    byId("find-field").hidden = sorted.length < findFrom;
    const found = sorted.filter((name) => name.toLowerCase().includes(wanted));
    this.list.show(found.map((name) => ({
      key: `@${name}`,
      makeIcon: () => avatar(name),
      name,
      note: isConnected ? presences[presenceOf(name)] : "",
      state: presenceOf(name),
      unread: unreadOf(name),
      isCurrent: current.key === `@${name}`,
    })));
    setText(byId("people-count"), isConnected ? `${sorted.filter((name) => !isGone(name)).length} here` : "");
    byId("nobody").hidden = found.length > 0;
  }
}
