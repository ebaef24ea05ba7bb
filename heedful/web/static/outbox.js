// What the browser keeps until the server has confirmed it. Answers stay in its storage, one entry
// each, so that two pages never overwrite each other's, and under the person's id, so that nobody
// sends another's. Unfinished answers stay with the page, for a reload that is faster than a draft.

const named = (...parts) => parts.map(encodeURIComponent).join(":") + ":";

export function outboxOf(user, project) {
  const prefix = named("heedful-outbox", user, project);

  function read(name) {
    try {
      return { ...JSON.parse(localStorage.getItem(name)), name };
    } catch {
      return { name };
    }
  }

  /** Answers that the server has not confirmed yet, oldest first. */
  function list() {
    let names = [];
    try {
      names = Object.keys(localStorage).filter((name) => name.startsWith(prefix));
    } catch {
      // storage is switched off, so nothing is in it
    }
    return names.sort().map(read).filter((one) => one.fields);
  }

  /** Keep an answer. Throws where the browser cannot: its storage is full or switched off. */
  function add(one) {
    const time = Math.max(Date.now(), 1 + (list().at(-1)?.time ?? 0)); // clocks go back
    const name = `${prefix}${String(time).padStart(15, "0")}:${encodeURIComponent(one.key)}`;
    localStorage.setItem(name, JSON.stringify({ ...one, time }));
  }

  return {
    list,
    add,
    remove: (name) => localStorage.removeItem(name),
    /** The answer that another page has just kept, of a storage event. */
    added: (event) => (event.newValue && event.key?.startsWith(prefix) ? read(event.key) : null),
  };
}

export function unsavedOf(user, project) {
  const name = (item) => named("heedful-unsaved", user, project, item);
  const attempt = (action) => {
    try {
      return action();
    } catch {
      return null; // the server's draft is what is left
    }
  };
  return {
    read: (item) => attempt(() => JSON.parse(sessionStorage.getItem(name(item)))),
    write: (item, fields) => attempt(() => sessionStorage.setItem(name(item), JSON.stringify(fields))),
    remove: (item) => attempt(() => sessionStorage.removeItem(name(item))),
  };
}
