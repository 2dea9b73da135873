// Frame is what stands around the messages: whose they are, whether there is a connection, what is unread.

import { byId, element, setText } from "./dom.js";

const heardLines = 10; // messages that a screen reader may still have to say

export class Frame {
  constructor(model, session, onLeave) {
    this.model = model;
    this.session = session;
    this.narrow = matchMedia("(max-width: 760px)");
    const { signal } = session.watching;
    byId("retry").onclick = () => {
      session.client.retry();
      byId("text").focus(); // the button is about to go
    };
    byId("again").onclick = onLeave;
    byId("leave").onclick = onLeave;
    byId("back").onclick = () => this.#back();
    byId("leave-room").onclick = () => session.leaveRoom(model.current.name).catch(() => {}); // it is still there to see
    byId("menu").onclick = () => this.setMenu(!this.isMenuOpen);
    byId("curtain").onclick = () => this.setMenu(false);
    this.narrow.addEventListener("change", () => this.setMenu(false), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    const ticking = setInterval(() => this.#count(), 250);
    signal.addEventListener("abort", () => clearInterval(ticking));
    model.onMessage = (message, conversation) => this.#sayMessage(message, conversation);
    byId("heard").replaceChildren();
    setText(byId("me"), model.me);
    setText(byId("why"), "");
    this.setMenu(false);
  }

  #back() {
    this.model.leavePrivate();
    byId("text").focus();
  }

  #key(event) {
    if (event.key !== "Escape" || event.isComposing || event.defaultPrevented) return;
    if (this.isMenuOpen) {
      this.setMenu(false);
      byId("menu").focus();
    } else if (this.model.leavePrivate()) {
      byId("text").focus();
    }
  }

  // setMenu shows or hides the lists where there is no place for them beside the messages.
  setMenu(isOpen) {
    this.isMenuOpen = isOpen && this.narrow.matches;
    byId("chat").classList.toggle("menu-open", this.isMenuOpen);
    byId("menu").setAttribute("aria-expanded", this.isMenuOpen);
    byId("side").inert = this.narrow.matches && !this.isMenuOpen;
    byId("main").inert = this.isMenuOpen;
    if (this.isMenuOpen) byId("side").querySelector("[aria-current]")?.focus();
  }

  // #sayMessage has a screen reader say a message that has just come.
  #sayMessage({ from, text }, { name, isPrivate }) {
    this.#say(`${from}${isPrivate ? ", private" : ` in ${name}`}: ${text}`);
  }

  #say(text) {
    byId("heard").append(element("p", {}, text));
    while (byId("heard").childElementCount > heardLines) byId("heard").firstElementChild.remove();
  }

  show() {
    const { current, unread, connection, people } = this.model;
    const sign = current.isPrivate ? "" : "#";
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${sign}${current.name} · Chat`;
    setText(byId("title"), sign + current.name);
    byId("back").hidden = !current.isPrivate;
    byId("leave-room").hidden = current.isPrivate || current.name === "lobby";
    const presence = { here: "Private · here", away: "Private · away" }[people.get(current.name)] ?? "Private · not here";
    const about = connection.name === "connected" ? presence : "Private";
    setText(byId("subtitle"), current.isPrivate ? about : "Everybody can read this room");
    const elsewhere = unread - current.unread;
    setText(byId("menu-badge"), elsewhere > 0 ? String(Math.min(elsewhere, 99)) : "");
    this.#showConnection(connection);
  }

  #showConnection({ name, error }) {
    document.body.dataset.state = name;
    const texts = { connecting: "Connecting…", connected: "Connected", waiting: "Not connected", ended: "Not connected" };
    setText(byId("status"), texts[name]);
    byId("trouble").hidden = name === "connected" || (name === "connecting" && !error);
    const why = this.#why(name, error);
    if (why !== byId("why").textContent) this.#say(why || "Connected again");
    setText(byId("why"), why);
    byId("retry").hidden = name !== "waiting";
    byId("again").hidden = name !== "ended";
    this.#count();
  }

  #why(name, error) {
    if (name === "connected" || !error) return "";
    const refusal = error.admission?.why;
    if (name === "ended") return `The server refuses: ${refusal ?? error.message}.`;
    if (refusal) return `The server refuses for now: ${refusal}.`;
    if (error.kind === "silent" || error.kind === "timeout") return "The network is dead, or the server: it does not answer.";
    if (error.code === 1001) return "The server is being restarted.";
    return "The connection is lost.";
  }

  // #count tells when the next try is. A screen reader is not told each second.
  #count() {
    const { name, next } = this.model.connection;
    const seconds = Math.max(0, Math.ceil((next - Date.now()) / 1000));
    if (name === "waiting") setText(byId("countdown"), `Next try in ${seconds} s`);
    else setText(byId("countdown"), name === "connecting" ? "Trying…" : "");
  }
}
