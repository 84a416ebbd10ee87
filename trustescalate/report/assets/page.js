"use strict";
(() => {
  // On paper every detail is open; the items stay as they are on the screen.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".more:not([open]), .folded:not([open]), .given:not([open])")];
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
