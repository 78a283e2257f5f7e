"use strict";
document.documentElement.classList.add("js");

function hint(box) {
  box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
}

function hintAll() {
  document.querySelectorAll(".scroll").forEach(hint);
}

for (const box of document.querySelectorAll(".scroll")) {
  box.addEventListener("scroll", () => hint(box), { passive: true });
}
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", hintAll);
window.addEventListener("resize", hintAll);
window.addEventListener("load", hintAll);

function pick(kind, value) {
  for (const select of document.querySelectorAll(`select[data-pick="${kind}"]`)) select.value = value;
  for (const part of document.querySelectorAll(`[data-${kind}]`)) {
    part.classList.toggle(`away-${kind}`, part.dataset[kind] !== value);
  }
  hintAll();
}

for (const select of document.querySelectorAll("select[data-pick]")) {
  select.parentElement.hidden = false;
  select.addEventListener("change", () => pick(select.dataset.pick, select.value));
  pick(select.dataset.pick, select.value);
}

for (const entry of document.querySelectorAll(".legend [data-line]")) {
  const single = (on) => {
    for (const line of entry.closest("figure").querySelectorAll("[data-line]")) {
      line.classList.toggle("faint", on && line.dataset.line !== entry.dataset.line);
    }
  };
  for (const event of ["pointerenter", "focus"]) entry.addEventListener(event, () => single(true));
  for (const event of ["pointerleave", "blur"]) entry.addEventListener(event, () => single(false));
}
