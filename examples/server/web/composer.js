// Composer is where the user writes. What is typed stays with its conversation until it is sent.

import { byId, setText } from "./dom.js";

const tellFrom = 0.9; // of the greatest length, from which on it is told how much is left

export class Composer {
  constructor(model, session, maxText) {
    this.model = model;
    this.session = session;
    this.maxText = maxText;
    this.text = byId("text");
    this.text.value = "";
    this.shown = null; // the conversation
    byId("compose").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    this.text.onkeydown = (event) => {
      // Enter sends, Shift+Enter makes a new line. isComposing: Enter chooses a word of an input method.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    };
    this.text.oninput = () => this.#typed();
  }

  get #length() {
    return [...this.text.value.trim()].length;
  }

  #typed() {
    this.model.current.draft = this.text.value;
    this.#fit();
    this.#count();
    if (this.#length > 0) this.session.types();
  }

  // #fit makes the field as high as its text, where the browser does not do so by itself.
  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }

  #count() {
    const left = this.maxText - this.#length;
    const isNear = this.#length > this.maxText * tellFrom;
    setText(byId("send-error"), left < 0 ? `A message has ${this.maxText} characters at most: ${-left} too many.` : "");
    setText(byId("left"), isNear && left >= 0 ? `${left} characters left` : "");
  }

  #send() {
    if (this.#length === 0 || this.#length > this.maxText) return;
    const { current } = this.model;
    const text = this.text.value.trim();
    this.text.value = current.draft = "";
    this.#fit();
    this.#count();
    current.isAtEnd = true;
    this.session.lastTyping = 0;
    this.session.outbox.send(current, text);
    this.text.focus();
  }

  show() {
    const { current } = this.model;
    if (this.shown === current) return;
    this.shown = current;
    this.text.value = current.draft;
    this.text.placeholder = current.isPrivate ? `Message ${current.name}` : `Message #${current.name}`;
    byId("compose").classList.toggle("private", current.isPrivate);
    this.#fit();
    this.#count();
  }
}
