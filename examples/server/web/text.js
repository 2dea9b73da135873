// What users have written, made into nodes.

import { element } from "./dom.js";

// A link ends where a character stands that could make it look like another one: quotes, brackets, and what changes the direction of text.
const link = /https?:\/\/[^\s<>"'`\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+/gi;
const closing = /[.,:;!?)\]}*_~]+$/;

// withLinks makes nodes of a text, in which the addresses of pages can be clicked: http and https, and nothing else.
export function withLinks(text) {
  const nodes = [];
  let at = 0;
  for (const { 0: found, index } of text.matchAll(link)) {
    const address = trim(found);
    if (!URL.canParse(address)) continue;
    nodes.push(text.slice(at, index), element("a", { href: address, dir: "ltr", target: "_blank", rel: "noopener noreferrer nofollow" }, address));
    at = index + address.length;
  }
  nodes.push(text.slice(at));
  return nodes;
}

// trim takes away what belongs to the sentence around an address, but for a bracket that was opened inside of it.
function trim(address) {
  const bare = address.replace(closing, "");
  const isOpen = bare.split("(").length > bare.split(")").length;
  return isOpen && address[bare.length] === ")" ? `${bare})` : bare;
}

const timeFormat = new Intl.DateTimeFormat([], { timeStyle: "short" });
const dayFormat = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export const timeOf = (date) => timeFormat.format(date);

// dayOf returns what a day is called: Today, Yesterday, or its date.
export function dayOf(date) {
  const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate());
  const days = Math.round((midnight(date) - midnight(new Date())) / 86_400_000);
  if (days < -1 || days > 0) return dayFormat.format(date);
  const name = relative.format(days, "day");
  return name[0].toUpperCase() + name.slice(1);
}
