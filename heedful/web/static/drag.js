// Cards of a list are put into order by mouse, touch or pen.
// A mouse takes a card anywhere, fingers and pens by its grip: elsewhere they scroll.

const START_PX = 5; // a press that moves less is a click
const EDGE_PX = 50; // of what is seen: within it the page scrolls along
const SPEED = 0.25; // of the depth in that edge, each frame
const NOT_FOR_MOUSE = "a, button, input, label, select, summary, textarea, pre, table";

const numbered = (list) => [...list.children].sort((a, b) => a.style.order - b.style.order);
const middleOf = (card) => {
  const box = card.getBoundingClientRect();
  return box.top + box.height / 2;
};

/** Let the cards of every ``selector`` within ``place`` be dragged; ``onDrop`` gets the list. */
export function letDrag(place, selector, onDrop) {
  let drag = null;

  place.addEventListener("pointerdown", (event) => {
    const card = event.target.closest(`${selector} > li`);
    const isMouse = event.pointerType === "mouse";
    const isMeant = isMouse ? !event.target.closest(NOT_FOR_MOUSE) : event.target.closest(".grip");
    if (drag || !card || !isMeant || event.button !== 0) return;
    const { pointerId, clientY } = event;
    drag = { card, list: card.parentNode, pointerId, from: clientY, y: clientY, isMoving: false };
  });

  const isOurs = (event) => drag !== null && event.pointerId === drag.pointerId;

  place.addEventListener("pointermove", (event) => {
    if (!isOurs(event)) return;
    drag.y = event.clientY;
    if (!drag.isMoving && Math.abs(drag.y - drag.from) < START_PX) return;
    if (!drag.isMoving) start();
    follow();
  });

  place.addEventListener("pointerup", (event) => {
    if (!isOurs(event)) return;
    const { list, isMoving } = drag;
    const cards = numbered(list);
    stop();
    if (!isMoving || !list.isConnected) return;
    list.append(...cards);
    onDrop(list);
  });

  place.addEventListener("pointercancel", (event) => isOurs(event) && stop());
  place.addEventListener("lostpointercapture", (event) => {
    if (isOurs(event) && event.target === place) stop(); // not of a grip, whose finger we take
  });
  // Else a quick drag counts as a fling, and the tap after it only ends that.
  const withhold = (event) => drag?.isMoving && event.preventDefault();
  place.addEventListener("touchmove", withhold, { passive: false });
  document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
  place.addEventListener("selectstart", (event) => drag && event.preventDefault());

  function start() {
    const { card, list, pointerId, from } = drag;
    drag.isMoving = true;
    drag.held = from - card.getBoundingClientRect().top;
    [...list.children].forEach((one, at) => (one.style.order = at));
    card.classList.add("dragged");
    // Not the card: the capture must outlive whatever happens to it.
    place.setPointerCapture(pointerId);
    requestAnimationFrame(scrollAlong);
  }

  /** Put the card under the pointer, between those whose middles are above and below it. */
  function follow() {
    const { card, list, y, held } = drag;
    const others = numbered(list).filter((one) => one !== card);
    others.splice(others.filter((one) => middleOf(one) < y).length, 0, card);
    others.forEach((one, at) => (one.style.order = at));
    card.style.translate = "none";
    card.style.translate = `0 ${y - held - card.getBoundingClientRect().top}px`;
  }

  function scrollAlong() {
    if (!drag?.isMoving) return;
    if (!drag.list.isConnected) {
      stop();
      return;
    }
    const top = document.querySelector("header.top").getBoundingClientRect().bottom + EDGE_PX;
    const bottom = place.querySelector(".bar").getBoundingClientRect().top - EDGE_PX;
    const depth = Math.min(drag.y - top, 0) + Math.max(drag.y - bottom, 0);
    if (depth) {
      scrollBy(0, SPEED * depth);
      follow();
    }
    requestAnimationFrame(scrollAlong);
  }

  function stop() {
    if (!drag) return;
    for (const one of drag.list.children) one.style.order = "";
    drag.card.style.translate = "";
    drag.card.classList.remove("dragged");
    drag = null;
  }
}
