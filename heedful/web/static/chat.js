// Answers appear as they are written; keys do what the buttons do.

import { areOn, digitOf, obey } from "./shortcuts.js";

const EVERY = 400;
const said = document.getElementById("chat-said");

async function watch() {
  const open = document.querySelector("[data-open]");
  if (!open) return;
  try {
    const answer = await fetch(open.dataset.open, { headers: { accept: "text/html" } });
    if (answer.ok) {
      const isAtEnd = innerHeight + scrollY > document.body.scrollHeight - 160;
      open.outerHTML = await answer.text(); // made by our own templates, everything escaped
      if (!document.querySelector("[data-open]")) {
        said.textContent = "The answer is there.";
        settle();
      }
      if (isAtEnd) scrollTo(0, document.body.scrollHeight);
    } else if (answer.status < 500) return;
  } catch { /* the studio is away: try again */ }
  setTimeout(watch, EVERY);
}

// the next thing can be said once the newest answer stands
function settle() {
  const turns = document.querySelectorAll(".talk");
  const last = turns[turns.length - 1];
  if (!last.querySelector(".judge-line")) return;
  const text = document.querySelector(".composer textarea");
  document.querySelector(".composer button").disabled = false;
  text.placeholder = "Say something";
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("textarea, input, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && isTyping) {
    event.preventDefault();
    if (!event.target.matches("textarea")) return; // a reason waits for its thumb
    event.target.form?.querySelector("button:not([disabled])")?.click();
    return;
  }
  if (event.key === "Escape" && isTyping) return event.target.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !areOn()) return;
  if (event.key === "e") {
    const edit = document.querySelector("details[data-edit]");
    if (!edit) return;
    event.preventDefault();
    edit.open = true;
    edit.querySelector("textarea").focus();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector(".composer textarea").focus();
    return;
  }
  const key = digitOf(event) ?? event.key;
  const button = document.querySelector(`[data-key="${CSS.escape(key)}"]:not([disabled])`);
  if (button) {
    event.preventDefault();
    button.click();
  }
});

document.body.classList.add("scripted");
obey(document.querySelector("#single-keys"));
watch();
