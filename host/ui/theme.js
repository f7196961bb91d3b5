// Light, dark, or as the system has it. Loaded before the page is drawn, so that it never flashes in the other theme.
(() => {
  const KEY = 'weir.theme';
  const names = { auto: 'System', light: 'Light', dark: 'Dark' };
  const order = ['auto', 'light', 'dark'];
  let theme = 'auto';
  try {
    theme = localStorage.getItem(KEY) ?? 'auto';
  } catch {
    // Storage is off: the choice holds until the page is closed.
  }
  if (!order.includes(theme)) theme = 'auto';
  const root = document.documentElement;
  const show = () => {
    if (theme === 'auto') delete root.dataset.theme;
    else root.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (!button) return;
    button.textContent = `◐ ${names[theme]}`;
    button.setAttribute('aria-label', `Theme: ${names[theme]}`);
    button.title = `Theme: ${names[theme].toLowerCase()}; press for the next one`;
  };
  show();
  document.addEventListener('DOMContentLoaded', () => {
    show();
    document.getElementById('theme').addEventListener('click', () => {
      theme = order[(order.indexOf(theme) + 1) % order.length];
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // As above.
      }
      show();
    });
  });
})();
