// Labelling without waiting: keys, items held ahead, an outbox that survives everything.
// The page works without this file; then every answer is a form and a new page.

const AHEAD = 3;
const GRACE_MS = 300; // a key that was meant for the item before is not taken for this one
const HEARTBEAT_MS = 30_000;
const RETRY_MS = 3_000;
const DRAFT_MS = 800;

const place = document.querySelector("#item");
const base = `/projects/${place.dataset.project}`;
const csrf = document.querySelector('meta[name="csrf"]').content;
const saved = document.querySelector("#saved");
const outboxName = `heedful-outbox:${place.dataset.project}`;

let ahead = []; // items after the one on screen
let shownAt = performance.now();
let hiddenMs = 0;
let hiddenSince = null;
let undone = -1; // how far back undo has gone
let sending = false;
let retryTimer = null;

/** Answers that the server has not confirmed yet, oldest first; kept by the browser. */
const outbox = {
  read: () => JSON.parse(localStorage.getItem(outboxName) ?? "[]"),
  write: (list) => localStorage.setItem(outboxName, JSON.stringify(list)),
  add: (one) => outbox.write([...outbox.read(), one]),
  remove: (key) => outbox.write(outbox.read().filter((one) => one.key !== key)),
};

async function ask(path, options = {}) {
  const headers = { accept: "application/json", "x-csrf-token": csrf, ...options.headers };
  const answer = await fetch(base + path, { ...options, headers });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(body.error?.message ?? `the server answered ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return body;
}

function say(state, text) {
  saved.dataset.state = state;
  if (saved.textContent !== text) saved.textContent = text;
}

function sayWaiting() {
  const { length } = outbox.read();
  if (length) say("waiting", navigator.onLine ? `${length} not saved yet` : `offline, ${length} kept here`);
}

/** Send what waits, one after the other. A refused answer stays visible, a lost line is retried. */
async function send() {
  if (sending) return;
  sending = true;
  clearTimeout(retryTimer);
  try {
    for (let next = outbox.read()[0]; next; next = outbox.read()[0]) {
      say("saving", "saving");
      try {
        const have = [current(), ...ahead.map((one) => one.task)].filter(Boolean).join(" ");
        const body = new URLSearchParams({ ...next.fields, have });
        const result = await ask(next.path, { method: "POST", body });
        outbox.remove(next.key);
        take(result);
      } catch (error) {
        if (error.status && error.status < 500 && ![401, 403, 408, 429].includes(error.status)) {
          outbox.remove(next.key);
          say("refused", error.message);
          await back(next.task);
          return;
        }
        sayWaiting();
        if (error.status === 401) location.assign("/sign-in");
        retryTimer = setTimeout(send, RETRY_MS);
        return;
      }
    }
    say("saved", "saved");
  } finally {
    sending = false;
  }
}

/** A server's word on what comes next. */
function take(result) {
  if (result.slots !== undefined) {
    for (const name of ["own", "done", "slots"]) {
      document.getElementById(name).textContent = result[name];
    }
    const meter = document.getElementById("meter");
    meter.max = Math.max(result.slots, 1);
    meter.value = result.done;
  }
  const waiting = new Set(outbox.read().map((one) => one.task));
  const onScreen = current();
  const known = new Set(ahead.map((one) => one.task));
  ahead.push(
    ...result.items.filter(
      (one) => one.task !== onScreen && !waiting.has(one.task) && !known.has(one.task),
    ),
  );
  if (!onScreen) {
    if (ahead.length) show(ahead.shift());
    else if (result.nothing) showNothing(result);
  }
}

const current = () => place.querySelector("form[data-task]")?.dataset.task;

function show(item) {
  place.innerHTML = item.html;
  shownAt = performance.now();
  hiddenMs = 0;
  hiddenSince = document.hidden ? shownAt : null;
  scrollTo({ top: 0 });
  place.querySelector(".question")?.focus({ preventScroll: true });
  mark(0, false);
}

function showNothing(result) {
  place.innerHTML = result.nothing;
  if (result.retry_seconds) setTimeout(refill, result.retry_seconds * 1000);
}

async function refill() {
  try {
    take(await ask(`/items?count=${AHEAD}`));
  } catch (error) {
    if (error.status === 401) location.assign("/sign-in");
    else setTimeout(refill, RETRY_MS);
  }
}

/** Show an answered task again, to change it. */
async function back(task) {
  try {
    const item = task === undefined ? await ask(`/recent/${undone + 1}`) : await ask(`/tasks/${task}`);
    const onScreen = place.innerHTML;
    const left = current();
    if (left && task === undefined) ahead.unshift({ task: left, html: onScreen });
    if (task === undefined) undone += 1;
    show(item);
  } catch (error) {
    say("refused", error.message);
  }
}

function secondsShown() {
  const now = performance.now();
  const hidden = hiddenMs + (hiddenSince === null ? 0 : now - hiddenSince);
  return ((now - shownAt - hidden) / 1000).toFixed(2);
}

place.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches(".answer-form, .skip-form")) return;
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(form, event.submitter));
  fields.seconds = secondsShown();
  const path = form.matches(".skip-form") ? "/skips" : "/answers";
  outbox.add({ key: fields.key ?? crypto.randomUUID(), task: fields.task, path, fields });
  undone = -1;
  place.replaceChildren();
  if (ahead.length) show(ahead.shift());
  send();
});

// drafts
let draftTimer = null;
place.addEventListener("input", (event) => {
  const form = event.target.closest("form.answer-form");
  if (!form) return;
  clearTimeout(draftTimer);
  say("saving", "saving");
  draftTimer = setTimeout(async () => {
    const fields = Object.fromEntries(new FormData(form));
    for (const name of ["csrf", "task", "key", "seconds"]) delete fields[name];
    try {
      await ask(`/drafts/${form.dataset.task}`, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(fields),
      });
      say("saved", "draft saved");
    } catch (error) {
      say("waiting", "draft not saved");
    }
  }, DRAFT_MS);
});

// scales: digits answer the marked line, arrows move the mark
const scales = () => [...place.querySelectorAll("[data-scale]")];

function mark(number, scrolls = true) {
  const all = scales();
  all.forEach((one, at) => one.classList.toggle("marked", at === number));
  if (scrolls) all[number]?.scrollIntoView({ block: "nearest" });
}

function onScale(key) {
  const all = scales();
  if (!all.length) return false;
  const now = Math.max(0, all.findIndex((one) => one.classList.contains("marked")));
  if (key === "ArrowDown") mark(Math.min(now + 1, all.length - 1));
  else if (key === "ArrowUp") mark(Math.max(now - 1, 0));
  else if (/^[1-9]$/.test(key)) {
    const choice = all[now].querySelectorAll("input[type=radio]")[Number(key) - 1];
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

let dragged = null;
place.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.("[data-ranking] > li") ?? null;
});
place.addEventListener("dragover", (event) => {
  const over = event.target.closest("[data-ranking] > li");
  if (!dragged || !over || over === dragged) return;
  event.preventDefault();
  const box = over.getBoundingClientRect();
  over.parentNode.insertBefore(dragged, event.clientY > box.top + box.height / 2 ? over.nextSibling : over);
});
place.addEventListener("drop", (event) => {
  if (dragged) event.preventDefault();
});
place.addEventListener("dragend", () => {
  if (!dragged) return;
  dragged = null;
  [...ranked().children].forEach((one, at) => setRank(one, String(at + 1)));
});

// keys
const spelled = (event) => {
  const digit = /^Digit(\d)$/.exec(event.code)?.[1];
  if (digit && event.shiftKey) return `shift+${digit}`;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
};

document.addEventListener("keydown", (event) => {
  const field = event.target.closest?.("textarea, select, input:not([type=radio], [type=checkbox])");
  if (field) {
    if (event.key === "Escape") field.blur();
    if (event.key === "Enter" && event.ctrlKey && field.dataset.submit) {
      const form = field.form;
      form.requestSubmit(form.querySelector(`[value="${field.dataset.submit}"]`));
    }
    return;
  }
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (document.querySelector("dialog[open]")) return;
  if (performance.now() - shownAt < GRACE_MS) return;
  const wanted = spelled(event);
  if (onScale(wanted) || onRanking(wanted)) {
    event.preventDefault();
    return;
  }
  if (wanted === "Enter" && event.target.closest?.("button, a, summary")) return;
  const target = [...document.querySelectorAll("[data-key]")].find((one) =>
    one.dataset.key.split(" ").includes(wanted),
  );
  if (!target) return;
  event.preventDefault();
  if (target.matches("select")) target.focus();
  else target.click();
});

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-key], [data-opens]");
  if (target?.dataset.opens) {
    event.preventDefault();
    const part = document.getElementById(target.dataset.opens);
    if (part.matches("details")) part.open = true;
    part.querySelector("textarea, select").focus();
  }
  if (target?.dataset.key === "u") {
    event.preventDefault();
    back();
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
  list.replaceChildren();
  for (const one of document.querySelectorAll("[data-key]")) {
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

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenSince = performance.now();
  else if (hiddenSince !== null) {
    hiddenMs += performance.now() - hiddenSince;
    hiddenSince = null;
  }
});
addEventListener("online", send);
addEventListener("offline", sayWaiting);
setInterval(() => ask("/heartbeat", { method: "POST" }).catch(() => {}), HEARTBEAT_MS);

const retry = place.querySelector("[data-retry]")?.dataset.retry;
if (retry) setTimeout(refill, Number(retry) * 1000);
mark(0, false);
sayWaiting();
send().then(refill);
