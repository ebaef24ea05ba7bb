// A form's fields as an object, and an object back into a form.

const OURS = new Set(["csrf", "task", "round", "key", "seconds", "have", "guidelines"]);
const plain = (text) => text.replaceAll("\r\n", "\n");

/** What a form states; the button that was pressed belongs to it. */
export function fieldsOf(form, button = null) {
  const fields = Object.fromEntries(new FormData(form, button));
  delete fields.csrf; // of a session, which may be over when the answer is sent
  return fields;
}

/** What a person stated, without what the page adds. */
export const statedOf = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([name, value]) => !OURS.has(name) && value));

/** Put what was stated into a form of the same task; false when something has no place in it. */
export function fill(form, fields) {
  const stated = statedOf(fields);
  for (const control of form.elements) {
    const { name, type } = control;
    if (!name || OURS.has(name)) continue;
    const value = stated[name] ?? "";
    if (type === "radio" || type === "checkbox") control.checked = control.value === value;
    else if (type !== "submit") control.value = value;
    else if (value) control.classList.toggle("chosen", control.value === value);
    control.closest("[data-ranking] > li")?.classList.toggle("placed", value !== "");
    if (value && control.matches("textarea")) control.closest("details")?.setAttribute("open", "");
  }
  return Object.entries(stated).every(([name, value]) =>
    [...form.elements].some((one) => one.name === name && plain(one.value) === plain(value)),
  );
}
