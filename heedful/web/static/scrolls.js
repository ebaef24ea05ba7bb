// Code, tables and formulas that are wider than their place are reached and scrolled by keys.

const NAMES = { PRE: "Code", TABLE: "Table", DIV: "Formula" };
const BLOCKS = "pre, table, div.math";

/** Does an arrow key move what is within the element, so that it means nothing else? */
export function movesBy(key, element) {
  if (/^Arrow(Left|Right)$/.test(key)) return element.scrollWidth > element.clientWidth;
  return /^Arrow(Up|Down)$/.test(key) && element.scrollHeight > element.clientHeight;
}

function update(block) {
  const scrolls = block.scrollWidth > block.clientWidth;
  if (scrolls === block.hasAttribute("tabindex")) return;
  block.toggleAttribute("tabindex", scrolls);
  if (!scrolls) return;
  block.tabIndex = 0;
  if (block.tagName !== "TABLE") block.setAttribute("role", "group");
  if (!block.caption) block.setAttribute("aria-label", NAMES[block.tagName]);
}

const sizes = new ResizeObserver((seen) => seen.forEach(({ target }) => update(target)));

function watch(nodes) {
  for (const node of nodes) {
    if (node.nodeType !== Node.ELEMENT_NODE) continue;
    if (node.matches(BLOCKS)) sizes.observe(node);
    node.querySelectorAll(BLOCKS).forEach((block) => sizes.observe(block));
  }
}

const main = document.querySelector("main");
watch([main]);
new MutationObserver((changes) => changes.forEach((one) => watch(one.addedNodes))).observe(main, {
  childList: true,
  subtree: true,
});
