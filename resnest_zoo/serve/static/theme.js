// Light, dark, or as the system; no module, so that it is settled before anything is drawn.
(() => {
  const KEY = "resnest-zoo-theme";
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem(KEY) ?? "auto";
    } catch {
      return "auto"; // storage is forbidden
    }
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = read();
  const apply = () => {
    root.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
  };
  apply();
  dark.addEventListener("change", apply);
  addEventListener("DOMContentLoaded", () => {
    const select = /** @type {HTMLSelectElement | null} */ (document.getElementById("theme"));
    if (!select) return;
    select.value = theme;
    select.addEventListener("change", () => {
      theme = select.value;
      apply();
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It lasts as long as the page.
      }
    });
  });
})();
