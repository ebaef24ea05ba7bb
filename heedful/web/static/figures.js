// Looks again for newer figures and puts them in place, without losing where the reader is.
const SOON = 1500, LATER = 15000;

async function look() {
  const shown = document.getElementById("figures");
  if (document.visibilityState === "visible" && !shown.contains(busy())) {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("figures");
      if (answer.ok && fresh && isNewer(fresh, shown)) shown.replaceWith(fresh);
    } catch { /* offline: the figures that are there stay */ }
  }
  wait();
}

// a field in use, or data that somebody has opened, is not swapped away
function busy() {
  const field = document.activeElement;
  return field?.matches("input, select") ? field : document.querySelector("#figures details[open]");
}

function isNewer(fresh, shown) {
  return fresh.dataset.asOf !== shown.dataset.asOf || fresh.dataset.state !== shown.dataset.state;
}

function wait() {
  const state = document.getElementById("figures").dataset.state;
  setTimeout(look, state === "computing" ? SOON : LATER);
}

wait();
