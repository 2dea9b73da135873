// Making and arranging elements. What users have written only ever becomes text, never HTML.

export const byId = (id) => document.getElementById(id);

// element makes an element. Attributes whose value is false, null or undefined are left out; texts become text.
export function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") e.addEventListener("click", value);
    else if (value !== false && value != null) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children);
  return e;
}

// setText changes a text only if it is another one, so that screen readers are not told of nothing.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// arrange makes nodes the children of a parent, in that order. Those that are there already stay as they are, with the focus.
export function arrange(parent, nodes) {
  const focused = document.activeElement;
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const node of nodes) {
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

// avatar makes the picture of a user: the first letter, on a colour that is always the same.
export function avatar(name) {
  let sum = 0;
  for (const c of name) sum = (sum * 5 + c.codePointAt(0)) % 6;
  return element("span", { class: `avatar tone-${sum}`, "aria-hidden": "true" }, [...name][0]?.toUpperCase() ?? "?");
}
