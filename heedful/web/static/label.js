// Labelling without waiting: items held ahead, and an outbox that survives everything.
// The page works without this file; then every answer is a form and a new page.

import { fieldsOf, fill, statedOf } from "./fields.js";
import { gapsOf, inWords, quieten, tell } from "./gaps.js";
import { isTyping, listen, markLine } from "./keys.js";
import { outboxOf, unsavedOf } from "./outbox.js";

const AHEAD = 3;
const GRACE_MS = 300; // a key that was meant for the item before is not taken for this one
const HEARTBEAT_MS = 30_000;
const RETRY_MS = 3_000;
const DRAFT_MS = 800;
const ANSWER_MS = 20_000; // a line that hangs longer than this is tried again

const place = document.querySelector("#item");
const base = `/projects/${place.dataset.project}`;
const csrf = document.querySelector('meta[name="csrf"]').content;
const saved = document.querySelector("#saved");
const said = document.querySelector("#said"); // the same for who hears the page
const drawer = document.querySelector("#guidelines");
const outbox = outboxOf(place.dataset.user, place.dataset.project);
const unsaved = unsavedOf(place.dataset.user, place.dataset.project);

/** An item's name: a task that is asked again is another item. */
const idOf = ({ task, round }) => `${task}:${round ?? ""}`;

let ahead = []; // items after the one on screen
let arrivedAt = performance.now(); // of the item on screen
let shownAt = arrivedAt; // earlier for an item that was on screen before
let hiddenMs = 0;
let hiddenSince = null;
let undone = Number(place.dataset.undone); // how far back undo has gone; -1: not at all
let sending = false;
let retryTimer = null;
const refused = new Map(); // what the server refused and nobody has seen to yet, by name
const guidelines = new Map([[drawer.dataset.version, drawer.querySelector(".prose").innerHTML]]);

async function ask(path, options = {}) {
  const headers = { accept: "application/json", "x-csrf-token": csrf, ...options.headers };
  const signal = AbortSignal.timeout(ANSWER_MS);
  const answer = await fetch(base + path, { signal, ...options, headers });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(body.error?.message ?? `the server answered ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  for (const [version, html] of Object.entries(body.guidelines ?? {})) guidelines.set(version, html);
  return body;
}

/** What the page has already, so that the server need not send it. */
const held = () => ({
  have: [current(), ...ahead.map(idOf)].filter(Boolean).join(" "),
  guidelines: [...guidelines.keys()].join(" "),
});

const post = (path, fields) =>
  ask(path, { method: "POST", body: new URLSearchParams({ ...fields, ...held() }) });
const get = (path, query = {}) =>
  ask(`${path}?${new URLSearchParams({ ...query, guidelines: held().guidelines })}`);

function say(state, text) {
  saved.dataset.state = state;
  if (saved.textContent !== text) saved.textContent = text;
  // what every keystroke changes is for the eye
  if (state !== "saving" && text !== "draft saved" && said.textContent !== text) said.textContent = text;
}

const waiting = () => outbox.list().filter((one) => !refused.has(one.name));

/** What is true of the outbox and of the item on screen; ``text`` when all is well. */
function sayState(text = "saved") {
  const { length } = waiting();
  const isBack = place.querySelector(".problem") !== null;
  const parts = [];
  if (length) parts.push(navigator.onLine ? `${length} not saved yet` : `offline, ${length} kept here`);
  if (refused.size) parts.push(`${refused.size} refused`);
  if (isBack && !parts.length) parts.push("not accepted yet");
  const state = refused.size || isBack ? "refused" : length ? "waiting" : "saved";
  say(state, parts.join(", ") || text);
}

/** Send what waits, one after the other. A lost line is retried, a refused answer comes back. */
async function send() {
  if (sending) return;
  sending = true;
  clearTimeout(retryTimer);
  const later = new Set(); // what the server breaks on does not hold up the rest
  const first = () => waiting().find((one) => !later.has(idOf(one)));
  try {
    for (let next = first(); next; next = first()) {
      say("saving", "saving");
      try {
        await drafts.get(idOf(next)); // a draft must not follow its answer
        const result = await post(next.path, next.fields);
        outbox.remove(next.name);
        take(result);
      } catch (error) {
        const { status } = error;
        if (status && status < 500 && ![401, 403, 408, 429].includes(status)) {
          refused.set(next.name, { ...next, message: error.message });
          if (isTyping() || !(await reopen(next.name))) showRefused();
          if (!current()) refill();
          continue;
        }
        if (status === 500) {
          later.add(idOf(next)); // nor may a later answer to the same item overtake it
          continue;
        }
        sayState();
        showKept(error);
        if (status === 401) location.assign("/sign-in");
        if (status === 403) say("waiting", `${waiting().length} kept here: ${error.message}`);
        retryTimer = setTimeout(send, RETRY_MS);
        return;
      }
    }
    sayState();
    if (later.size) showKept({ status: 500 });
    if (later.size) retryTimer = setTimeout(send, RETRY_MS);
  } finally {
    sending = false;
  }
}

/** Show a refused answer's task as it was filled in, and why it was refused; false if it cannot. */
async function reopen(name) {
  const one = refused.get(name);
  let item;
  try {
    item = await get(`/tasks/${encodeURIComponent(one.task)}`, roundOf(one));
  } catch {
    return false;
  }
  if (!refused.has(name) || current() === idOf(one) || isTyping()) return false;
  leave();
  ahead = ahead.filter((each) => idOf(each) !== idOf(one));
  show(item);
  warn(`Not accepted: ${one.message}`);
  const form = place.querySelector(one.path === "/skips" ? ".skip-form" : ".answer-form");
  if (!form || !fill(form, one.fields)) return false;
  one.isShown = true;
  if (one.path === "/skips" || (await saveDraft(form))) settle(idOf(one));
  return true;
}

/** Forget the refused answers of an item: they are on screen, or a newer one has been given. */
function settle(id) {
  for (const [name, one] of refused) {
    if (idOf(one) !== id) continue;
    outbox.remove(name);
    refused.delete(name);
  }
  showRefused();
  sayState();
}

function made(element, text, properties = {}) {
  return Object.assign(document.createElement(element), { textContent: text, ...properties });
}

/** List the refused answers that are not on screen, with all that was stated. */
function showRefused() {
  const list = document.querySelector("#refused");
  const aside = [...refused.values()].filter((one) => !one.isShown);
  list.hidden = !aside.length;
  const title = made("h2", `${aside.length} refused`, { id: "refused-title" });
  list.replaceChildren(title, ...aside.flatMap(refusedParts));
  sayState();
}

function refusedParts(one) {
  const lines = Object.entries(statedOf(one.fields)).map(([name, value]) => `${name}: ${value}`);
  const kept = made("textarea", lines.join("\n"), { readOnly: true, rows: Math.min(lines.length + 1, 8) });
  kept.setAttribute("aria-label", "What you stated");
  const buttons = made("p", "", { className: "row" });
  const show = made("button", "Show it", { type: "button" });
  show.addEventListener("click", () => reopen(one.name).then(showRefused));
  const again = made("button", "Send again", { type: "button" });
  again.addEventListener("click", () => {
    refused.delete(one.name);
    showRefused();
    send();
  });
  const away = made("button", "Throw away", { type: "button", className: "quiet" });
  away.addEventListener("click", () => {
    if (confirm("Throw this answer away?")) settle(idOf(one));
  });
  buttons.append(show, again, away);
  return [made("p", one.message), kept, buttons];
}

/** A server's word on what comes next. */
function take(result) {
  if (result.own !== undefined) document.getElementById("own").textContent = result.own;
  if (result.slots !== undefined) {
    for (const name of ["done", "slots"]) document.getElementById(name).textContent = result[name];
    const meter = document.getElementById("meter");
    meter.max = Math.max(result.slots, 1);
    meter.value = result.done;
  }
  const onScreen = current();
  const known = new Set([onScreen, ...outbox.list().map(idOf), ...ahead.map(idOf)]);
  ahead.push(...result.items.filter((one) => !known.has(idOf(one))));
  if (!onScreen) {
    if (ahead.length) show(ahead.shift());
    else if (result.nothing) showNothing(result);
    else if (refused.size) place.replaceChildren(made("p", "Nothing else is left for now."));
    else showKept({ isSaving: true });
  }
}

/** The name of the item on screen. */
function current() {
  const form = place.querySelector("form[data-task]");
  return form && idOf(form.dataset);
}

/** The round of an item as a query; what was kept before there were rounds states none. */
const roundOf = ({ round }) => (round === undefined ? {} : { round });

function show(item) {
  if (item.nodes) place.replaceChildren(...item.nodes);
  else place.innerHTML = item.html;
  arrivedAt = performance.now();
  shownAt = arrivedAt - (item.spentMs ?? 0);
  hiddenMs = 0;
  hiddenSince = document.hidden ? arrivedAt : null;
  showGuidelines(String(item.guideline));
  if (!item.nodes) restore();
  scrollTo({ top: 0 });
  place.querySelector(".question")?.focus({ preventScroll: true });
  prepare();
}

/** Ready the form on screen: the mark at the first gap, and what is missing said by this page. */
function prepare() {
  const form = place.querySelector("form.answer-form");
  if (!form) return;
  showLastTurn();
  form.noValidate = form.querySelector("[data-scale], [data-ranking]") !== null;
  markLine(gapsOf(form)[0], false);
}

/** Begin a long conversation with its last turn, which is the one that is answered. */
function showLastTurn() {
  const prompt = place.querySelector(".prompt.many");
  if (!prompt) return;
  const earlier = prompt.querySelector(".earlier");
  earlier.hidden = prompt.scrollHeight <= prompt.clientHeight;
  const top = prompt.getBoundingClientRect().top + earlier.offsetHeight;
  const last = [...prompt.querySelectorAll(".turn")].at(-1);
  prompt.scrollTop += last.getBoundingClientRect().top - top;
}

/** Say what an answer lacks, at its first gap; false when it lacks nothing. */
function isLacking(form) {
  const gaps = form.noValidate ? gapsOf(form) : [];
  if (!gaps.length) return false;
  tell(form, `${inWords(form, gaps)}.`);
  markLine(gaps[0]);
  return true;
}

/** Keep what is on screen, as it is, for after what is shown next. */
function leave() {
  const form = place.querySelector("form[data-task]");
  if (!form) return;
  const { task, round, guideline } = form.dataset;
  const isChange = "change" in form.dataset;
  ahead.unshift({ task, round, guideline, isChange, nodes: [...place.childNodes], spentMs: shownMs() });
}

/** The guidelines that the item on screen is answered under. */
function showGuidelines(version) {
  if (!guidelines.has(version) || drawer.dataset.version === version) return;
  drawer.dataset.version = version;
  drawer.querySelector("#guidelines-version").textContent = version;
  drawer.querySelector(".prose").innerHTML = guidelines.get(version);
  drawer.hidden = version === "0";
  document.querySelector("#guidelines-button").hidden = version === "0";
}

/** Say above the item why it is still there. */
function warn(text) {
  place.querySelector(".problem")?.remove();
  const notice = made("p", text, { className: "notice problem" });
  notice.setAttribute("role", "alert");
  place.prepend(notice);
}

function showNothing(result) {
  place.innerHTML = result.nothing;
  place.querySelector("h1")?.focus({ preventScroll: true });
  if (result.retry_seconds) setTimeout(refill, result.retry_seconds * 1000);
}

async function refill() {
  try {
    const result = await post("/items", { count: AHEAD });
    take(result);
    // all that it holds is answered here and not saved yet
    if (!current() && !result.nothing && !refused.size) setTimeout(refill, RETRY_MS);
  } catch (error) {
    if (error.status === 401) location.assign("/sign-in");
    else {
      showKept(error);
      setTimeout(refill, RETRY_MS);
    }
  }
}

/** Say in place of a task that none comes for now, and that nothing is lost. */
function showKept({ status, isSaving }) {
  if (current()) return;
  const { length } = waiting();
  const kept = length === 1 ? "Your answer is" : `Your ${length} answers are`;
  const then = status || isSaving ? "the server has answered" : "the line is back";
  const text = `${length ? `${kept} kept here; the` : "The"} next task comes when ${then}.`;
  const title = place.querySelector(".kept h1") ?? made("h1", "", { tabIndex: -1 });
  if (title.textContent !== text) title.textContent = text;
  if (title.isConnected) return;
  const card = made("section", "", { className: "card empty kept" });
  card.append(title);
  place.replaceChildren(card);
  title.focus({ preventScroll: true });
}

/** Say that another tab has answered, or skipped, what is on screen; a key just now is not for it. */
function sayAnswered({ path }) {
  const form = place.querySelector("form.answer-form");
  const leave = made("a", "Go on to the next task", { href: `${base}/label` });
  leave.dataset.key = "n";
  leave.append(" ", made("kbd", "n"));
  const said = path === "/skips" ? "skipped" : "answered";
  tell(form, `You ${said} this in another tab; an answer here takes its place.`, leave);
  arrivedAt = performance.now();
}

/** Show an answered task again, to change it. */
async function back() {
  try {
    const item = await get(`/recent/${undone + 1}`);
    undone += 1;
    leave();
    ahead = ahead.filter((one) => idOf(one) !== idOf(item));
    show(item);
  } catch (error) {
    say("refused", error.message);
  }
}

/** Leave what undo has shown as it is, and go on where undo began. */
function onward() {
  undone = -1;
  ahead = ahead.filter((one) => !one.isChange);
  place.replaceChildren();
  if (ahead.length) show(ahead.shift());
  else refill();
}

function shownMs() {
  const now = performance.now();
  return now - shownAt - hiddenMs - (hiddenSince === null ? 0 : now - hiddenSince);
}

place.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches(".answer-form, .skip-form")) return;
  event.preventDefault();
  if (isLacking(form)) return;
  const fields = { ...fieldsOf(form, event.submitter), seconds: (shownMs() / 1000).toFixed(2) };
  const path = form.matches(".skip-form") ? "/skips" : "/answers";
  const { task, round } = form.dataset;
  const id = idOf(form.dataset);
  try {
    outbox.add({ key: fields.key ?? `skip ${id}`, task, round, path, fields });
  } catch {
    warn(
      "Not saved: this browser's storage is full or switched off. Make room in it or leave " +
        "private browsing, then submit again.",
    );
    sayState();
    return;
  }
  clearTimeout(draftTimers.get(id));
  unsaved.remove(id);
  undone = -1;
  place.replaceChildren();
  settle(id);
  if (ahead.length) show(ahead.shift());
  send();
});

// drafts
const draftTimers = new Map(); // by item
const drafts = new Map(); // on their way, by item

place.addEventListener("input", (event) => {
  const form = event.target.closest("form.answer-form");
  if (!form) return;
  const id = idOf(form.dataset);
  quieten(form);
  unsaved.write(id, fieldsOf(form));
  clearTimeout(draftTimers.get(id));
  say("saving", "saving");
  draftTimers.set(id, setTimeout(() => saveDraft(form), DRAFT_MS));
});

/** Have the server keep what is unfinished; false when it does not. */
function saveDraft(form) {
  const { task, round } = form.dataset;
  const id = idOf(form.dataset);
  const fields = statedOf(fieldsOf(form));
  clearTimeout(draftTimers.get(id));
  const done = ask(`/drafts/${task}?round=${round}`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  }).then(
    () => {
      const now = statedOf(fieldsOf(form));
      if (JSON.stringify(now) === JSON.stringify(fields)) unsaved.remove(id);
      sayState("draft saved");
      return true;
    },
    () => {
      sayState();
      if (!waiting().length && !refused.size) say("waiting", "draft not saved");
      return false;
    },
  );
  drafts.set(id, done);
  return done;
}

/** Put back what was typed just before a reload. */
function restore() {
  const form = place.querySelector("form.answer-form");
  const fields = form && unsaved.read(idOf(form.dataset));
  if (!fields) return;
  fill(form, fields);
  saveDraft(form);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-key], [data-opens]");
  const go = { u: back, n: onward }[target?.dataset.key];
  if (!go) return;
  event.preventDefault();
  go();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenSince = performance.now();
  else if (hiddenSince !== null) {
    hiddenMs += performance.now() - hiddenSince;
    hiddenSince = null;
  }
});
addEventListener("online", send);
addEventListener("offline", () => sayState());
addEventListener("storage", (event) => {
  const answered = outbox.added(event); // in another tab
  if (!answered?.task) return;
  const id = idOf(answered);
  ahead = ahead.filter((one) => idOf(one) !== id);
  if (current() === id) sayAnswered(answered);
});
setInterval(() => ask("/heartbeat", { method: "POST" }).catch(() => {}), HEARTBEAT_MS);

document.body.classList.add("scripted");
document.querySelector("#guidelines-button").hidden = drawer.dataset.version === "0";
listen(() => performance.now() - arrivedAt >= GRACE_MS);
const retry = place.querySelector("[data-retry]")?.dataset.retry;
if (retry) setTimeout(refill, Number(retry) * 1000);
restore();
prepare();
sayState();
send().then(refill);
