// A running run's page keeps itself up to date: asks for the part that changes, and swaps it in.
const EVERY = 3000;
const live = document.getElementById("live");
const said = document.getElementById("live-said");
let timer = 0;

const part = () => document.getElementById("live-part");
const isOver = () => part().dataset.state !== "running";
// whoever reads a table of numbers keeps it until they leave it
const isRead = () => live.querySelector("details[open]") !== null || live.contains(document.activeElement);

async function look() {
  clearTimeout(timer);
  if (isOver()) return;
  if (!document.hidden && !isRead()) {
    try {
      const address = new URL(live.dataset.live, location.href);
      address.searchParams.set("have", part().dataset.stamp);
      const answer = await fetch(address, { headers: { accept: "text/html" } });
      if (answer.status === 200) swap(await answer.text());
    } catch { /* the studio is away: try again */ }
  }
  timer = setTimeout(look, EVERY);
}

function swap(html) {
  live.innerHTML = html; // made by our own templates, everything escaped
  if (isOver()) {
    said.textContent = `This run is ${part().dataset.state}.`;
    // its samples, report and models are elsewhere on the page
    location.reload();
  }
}

if (live) {
  document.addEventListener("visibilitychange", look);
  timer = setTimeout(look, EVERY);
}
