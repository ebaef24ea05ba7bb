// Single keys: which digit was pressed, and whether somebody wants them at all.

const NAME = "heedful-single-keys";

/** The digit on a key, wherever its layout puts others; null for a key without one. */
export const digitOf = ({ code, key }) =>
  /^Digit([0-9])$/.exec(code)?.[1] ?? (code.startsWith("Numpad") && /^[0-9]$/.test(key) ? key : null);

/** Do single keys act on this browser? Whoever speaks to it or trembles can switch them off. */
export function areOn() {
  try {
    return localStorage.getItem(NAME) !== "off";
  } catch {
    return true;
  }
}

/** Let a checkbox switch them. */
export function obey(box) {
  if (!box) return;
  box.checked = areOn();
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(NAME, box.checked ? "on" : "off");
    } catch {
      box.checked = true; // it cannot be kept
    }
  });
}
