// Runs can be hidden everywhere at once; nothing is taken out of the page.
for (const box of document.querySelectorAll(".runs input")) {
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(`[data-run="${box.value}"]`)) {
      part.style.display = box.checked ? "" : "none";
    }
  });
}

// Tables of images can be searched by name.
for (const search of document.querySelectorAll("input[data-filters]")) {
  const body = document.getElementById(search.dataset.filters).tBodies[0];
  const status = document.getElementById(search.getAttribute("aria-describedby"));
  search.closest(".controls").hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    status.textContent = `${shown} of ${body.rows.length} images`;
  });
}
