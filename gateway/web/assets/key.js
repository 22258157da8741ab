// The caller's API key: in this tab's session only, sent to this server only.

const NAME = "qzoom.key";
let key = "";
try {
  key = sessionStorage.getItem(NAME) ?? "";
} catch {
  // Storage is switched off: the key lives as long as the page.
}

/** Give the key; empty where there is none. */
export function apiKey() {
  return key;
}

/** Bind a field to the key; `changed` runs after every change. */
export function addKeyField(field, changed = () => {}) {
  field.value = key;
  field.addEventListener("change", () => {
    key = field.value.trim();
    try {
      if (key) sessionStorage.setItem(NAME, key);
      else sessionStorage.removeItem(NAME);
    } catch {
      // As above.
    }
    changed();
  });
}

/** Give the headers that say who asks. */
export function keyHeaders() {
  return key ? { authorization: `Bearer ${key}` } : {};
}
