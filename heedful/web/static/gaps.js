// What an answer still lacks, and where a message about it stands.

const LACKS = {
  rating: ["line has no rating yet", "lines have no rating yet"],
  steps: ["step has no label yet", "steps have no label yet"],
  ranking: ["answer has no place yet", "answers have no place yet"],
};

const isAnswered = (line) => line.querySelector("input[type=radio]:checked") !== null;

/** The lines that want an answer: of steps none after the first bad one where it stops there. */
function wantedLines(form) {
  const lines = [...form.querySelectorAll("[data-scale]")];
  if (!form.elements.first_error?.checked) return lines;
  const bad = lines.findIndex((one) => one.querySelector('[value="-1"]:checked'));
  return bad < 0 ? lines : lines.slice(0, bad + 1);
}

/** The lines and places of a form without an answer, in order. */
export const gapsOf = (form) => [
  ...wantedLines(form).filter((one) => !isAnswered(one)),
  ...[...form.querySelectorAll("[data-ranking] select")].filter((one) => !one.value),
];

/** How many gaps there are, in words. */
export function inWords(form, gaps) {
  const [one, many] = LACKS[form.dataset.form];
  return `${gaps.length} ${gaps.length === 1 ? one : many}`;
}

/** Say something beside the buttons, where it is seen wherever the page is scrolled to. */
export function tell(form, text, ...more) {
  form.querySelector(".told")?.remove();
  const notice = document.createElement("p");
  notice.className = "notice told";
  notice.setAttribute("role", "alert");
  notice.append(text, ...more);
  form.querySelector(".bar").prepend(notice);
}

/** Take back what is said, unless it leads somewhere. */
export const quieten = (form) => form.querySelector(".told:not(:has(a))")?.remove();
