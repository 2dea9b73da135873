// The page of the chat. Session keeps the Model and the server the same, and the views show the Model.

import { Composer } from "./composer.js";
import { byId, setText } from "./dom.js";
import { Frame } from "./frame.js";
import { PeopleView, RoomsView } from "./lists.js";
import { LogView } from "./log.js";
import { showDemoUsers } from "./login.js";
import { Model } from "./model.js";
import { Session, askLogin } from "./session.js";

let session = null; // of the user who is logged in

async function join(config, key) {
  if (byId("login").inert) return;
  setText(byId("login-error"), "");
  byId("login").inert = true;
  try {
    const { name, why, status } = await askLogin(key);
    if (status === 401 || status === 403) sessionStorage.removeItem("key");
    if (why) setText(byId("login-error"), `The server refuses: ${why}.`);
    else enter(config, key, name);
  } catch {
    setText(byId("login-error"), "The server cannot be reached.");
  }
  byId("login").inert = false;
  if (!session) byId("key").focus();
}

function enter(config, key, name) {
  sessionStorage.setItem("key", key); // for this tab only, until it is closed
  byId("key").value = "";
  byId("login").hidden = true;
  byId("chat").hidden = false;
  const model = new Model(name);
  session = new Session(config, key, model);
  const frame = new Frame(model, session, leave);
  const onOpen = () => {
    frame.setMenu(false);
    byId("text").focus();
  };
  model.views = [new LogView(model, session), new RoomsView(model, session, onOpen), new PeopleView(model, session, onOpen),
    new Composer(model, session, config.maxText), frame];
  for (const view of model.views) view.show();
  byId("text").focus();
}

function leave() {
  if (session?.outbox.hasAny && !confirm("There are messages that may not have arrived. Leave all the same?")) return;
  if (session) {
    session.close();
    session.model.views = [];
    session = null;
  }
  sessionStorage.removeItem("key");
  byId("log").replaceChildren(); // it is not for whoever comes next
  byId("heard").replaceChildren();
  byId("chat").hidden = true;
  byId("login").hidden = false;
  document.title = "Chat";
  byId("key").focus();
}

async function main() {
  const loading = fetch("config.json").then((answer) => answer.json());
  byId("login-form").onsubmit = async (event) => {
    event.preventDefault(); // also before the configuration is there: who is fast must not lose what was typed
    join(await loading, byId("key").value.trim());
  };
  addEventListener("beforeunload", (event) => {
    if (session?.outbox.hasAny) event.preventDefault(); // the browser asks
  });
  try {
    const config = await loading;
    showDemoUsers(config.demoUsers, (key) => join(config, key));
    const key = sessionStorage.getItem("key");
    if (key) join(config, key);
  } catch {
    setText(byId("login-error"), "The server cannot be reached. Load the page again.");
  }
}

main();
