// Light, dark, or as the system has it. The choice is kept in the browser.

const NAME = "qzoom.theme";
const CHOICES = ["system", "light", "dark"];

function read() {
  try {
    const kept = localStorage.getItem(NAME);
    return CHOICES.includes(kept) ? kept : "system";
  } catch {
    return "system"; // Storage may be switched off.
  }
}

/** Make the button step through the themes. */
export function addTheme(button) {
  let theme = read();
  const show = () => {
    document.documentElement.style.colorScheme = theme === "system" ? "" : theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = CHOICES[(CHOICES.indexOf(theme) + 1) % CHOICES.length];
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // It holds for this page then.
    }
    show();
  });
  show();
}
