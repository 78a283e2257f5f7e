function sortBy(head) {
  const rows = [...head.closest("table").tBodies[0].rows];
  const before = head.getAttribute("aria-sort") || (head.dataset.first === "descending" ? "ascending" : "descending");
  const down = before === "ascending";
  const value = (row) => row.cells[head.cellIndex].dataset.sort;
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  rows.sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === "" || b === "") return (a === "") - (b === "");  // what is missing stays last
    const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    return down ? -order : order;
  });
  head.closest("table").tBodies[0].append(...rows);
}

for (const button of document.querySelectorAll("button.sort")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

function light(number, text) {
  for (const part of document.querySelectorAll("[data-point]")) {
    part.classList.toggle("lit", part.dataset.point === number);
  }
  document.querySelector(".coordinates")?.classList.add("single");
  for (const readout of document.querySelectorAll(".readout")) readout.textContent = text;
}

for (const part of document.querySelectorAll("[data-text]")) {
  for (const event of ["pointerenter", "click"]) {
    part.addEventListener(event, () => light(part.dataset.of, part.dataset.text));
  }
}
document.querySelector(".coordinates")?.addEventListener("pointerleave", (event) => {
  if (event.pointerType === "mouse") event.currentTarget.classList.remove("single");
});
