// Runs can be hidden everywhere at once; nothing is taken out of the page.
for (const box of document.querySelectorAll(".runs input")) {
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(`[data-run="${box.value}"]`)) {
      part.style.display = box.checked ? "" : "none";
    }
  });
}

// Tables of pictures can be searched by name.
for (const search of document.querySelectorAll("input[data-filters]")) {
  const body = document.getElementById(search.dataset.filters).tBodies[0];
  const told = document.getElementById(search.getAttribute("aria-describedby"));
  search.closest(".controls").hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    told.textContent = `${shown} of ${body.rows.length} pictures`;
  });
}

// The strip below shows every layer without this; it lays two of them over each other.
for (const example of document.querySelectorAll(".example.layered")) {
  const layers = [...example.querySelectorAll(".strip img")];
  const stage = document.createElement("div");
  stage.className = "stage";
  const [left, right] = [0, 1].map(() => stage.appendChild(document.createElement("img")));
  const [first, second, slider] = example.querySelectorAll(".controls select, .controls input");
  const show = (image, choice) => {
    const layer = layers[choice.value];
    image.src = layer.src;
    image.alt = layer.alt;
    image.className = layer.className;
  };
  first.addEventListener("change", () => show(left, first));
  second.addEventListener("change", () => show(right, second));
  const cut = () => {
    stage.style.setProperty("--cut", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} per cent of the left picture`);
  };
  slider.addEventListener("input", cut);
  show(left, first);
  show(right, second);
  cut();
  const controls = example.querySelector(".controls");
  controls.hidden = false;
  controls.after(stage);
}
