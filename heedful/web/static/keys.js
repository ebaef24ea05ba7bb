// Keys of the labelling page: scales, rankings, buttons and the list of all keys.

import { letDrag } from "./drag.js";
import { movesBy } from "./scrolls.js";
import { areOn, digitOf, obey } from "./shortcuts.js";

const place = document.querySelector("#item");

/** Is a person writing, so that what is on screen must stay? */
export const isTyping = () =>
  document.querySelector("dialog[open]") !== null ||
  document.activeElement?.matches("textarea, input:not([type=radio], [type=checkbox])") === true;

// scales: digits answer the marked line, arrows move the mark
const scales = () => [...place.querySelectorAll("[data-scale]")];

function mark(number, scrolls = true) {
  const all = scales();
  all.forEach((one, at) => one.classList.toggle("marked", at === number));
  if (scrolls) all[number]?.scrollIntoView({ block: "nearest" });
}

/** Mark a line; the first one where it is none. */
export const markLine = (line, scrolls) => mark(Math.max(0, scales().indexOf(line)), scrolls);

/** Where to write about the raised flag that is marked, or about the nearest one above it. */
function noteOf() {
  const all = scales();
  const upTo = all.slice(0, all.findIndex((one) => one.classList.contains("marked")) + 1);
  const raised = upTo.findLast((one) => one.querySelector('[data-digit]:checked:not([value="0"])'));
  return raised?.parentElement.querySelector(".note input");
}

/** Let the mark follow a person, but no window that gets the focus back. */
function follow(event) {
  const line = event.target.closest("[data-scale]");
  if (line && (event.type === "click" ? event.isTrusted : event.relatedTarget)) markLine(line, false);
}
place.addEventListener("click", follow);
place.addEventListener("focusin", follow);

function onScale(key) {
  const all = scales();
  if (!all.length) return false;
  const now = Math.max(0, all.findIndex((one) => one.classList.contains("marked")));
  if (key === "ArrowDown") mark(Math.min(now + 1, all.length - 1));
  else if (key === "ArrowUp") mark(Math.max(now - 1, 0));
  else if (/^[0-9]$/.test(key)) {
    const choice = all[now].querySelector(`input[data-digit="${key}"]`);
    if (!choice) return false;
    choice.click();
    mark(Math.min(now + 1, all.length - 1));
  } else return false;
  return true;
}

// rankings: digits put answers into places one after the other, or they are dragged
const ranked = () => place.querySelector("[data-ranking]");
const byNumber = (list) =>
  [...list.children].sort((a, b) => Number(a.dataset.place) - Number(b.dataset.place));
const rankOf = (one) => Number(one.querySelector("select").value);

function onRanking(key) {
  const list = ranked();
  if (!list) return false;
  const digit = /^(shift\+)?([1-9])$/.exec(key);
  const placed = [...list.children].filter(rankOf);
  const last = Math.max(0, ...placed.map(rankOf));
  if (key === "Backspace") {
    for (const one of placed.filter((each) => rankOf(each) === last)) setRank(one, "");
    return true;
  }
  const target = digit && byNumber(list)[Number(digit[2]) - 1];
  if (!target) return false;
  const others = Math.max(0, ...placed.filter((one) => one !== target).map(rankOf));
  setRank(target, String(digit[1] && others ? others : others + 1));
  return true;
}

function setRank(one, value) {
  const select = one.querySelector("select");
  select.value = value;
  one.classList.toggle("placed", value !== "");
  select.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Would this key type ahead in the list of an answer's places, where it is meant for the ranking? */
const isForRanking = (field, { key }) =>
  field.matches("[data-ranking] select") &&
  ((key.length === 1 && key !== " ") || key === "Enter" || key === "Backspace");

letDrag(place, "[data-ranking]", (list) =>
  [...list.children].forEach((one, at) => setRank(one, String(at + 1))),
);

// keys
const spelled = (event) => {
  const digit = digitOf(event);
  if (digit) return event.shiftKey ? `shift+${digit}` : digit;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
};

/** Take keys; ``isSettled`` says whether the item on screen has been there long enough. */
export function listen(isSettled) {
  obey(document.querySelector("#single-keys"));
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.("textarea, select, input:not([type=radio], [type=checkbox])");
    if (field && !isForRanking(field, event)) {
      if (event.key === "Escape") field.blur();
      if (event.key === "Enter" && event.ctrlKey && field.dataset.submit) {
        const form = field.form;
        form.requestSubmit(form.querySelector(`[value="${field.dataset.submit}"]`));
      }
      return;
    }
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.target.matches?.("[tabindex='0']") && movesBy(event.key, event.target)) return;
    if (!isSettled() || !areOn()) return;
    const wanted = spelled(event);
    if (onScale(wanted) || onRanking(wanted)) {
      event.preventDefault();
      return;
    }
    if (wanted === "Enter" && event.target.closest?.("button, a, summary")) return;
    const target = [...document.querySelectorAll("[data-key]:not([hidden])")].find((one) =>
      one.dataset.key.split(" ").includes(wanted),
    );
    if (!target) return;
    event.preventDefault();
    if (target.matches("select")) target.focus();
    else target.click();
  });
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-key], [data-opens]");
  if (target?.dataset.opens) {
    event.preventDefault();
    const part = document.getElementById(target.dataset.opens);
    if (part.matches("details")) part.open = true;
    const field = part.querySelector("textarea, select");
    field.focus();
    if (field.matches("textarea")) field.setSelectionRange(field.value.length, field.value.length);
  }
  if (target?.matches("[data-notes]")) {
    event.preventDefault();
    noteOf()?.focus();
  }
  if (target?.dataset.key === "g") {
    const drawer = document.querySelector("#guidelines");
    drawer.open = !drawer.open;
    target.setAttribute("aria-expanded", String(drawer.open));
  }
  if (target?.dataset.key === "?") {
    event.preventDefault();
    showKeys();
  }
});

function showKeys() {
  const list = document.querySelector("#keys-list");
  const ofForm = place.querySelector(".form-keys")?.cloneNode(true);
  list.replaceChildren(...(ofForm?.childNodes ?? []));
  for (const one of document.querySelectorAll("[data-key]:not([hidden])")) {
    const kbd = one.querySelector("kbd");
    if (!kbd) continue;
    const term = document.createElement("dt");
    term.append(kbd.cloneNode(true));
    const text = document.createElement("dd");
    const words = one.cloneNode(true);
    words.querySelectorAll("kbd").forEach((each) => each.remove());
    text.textContent = words.textContent.trim();
    list.append(term, text);
  }
  document.querySelector("#keys").showModal();
}
