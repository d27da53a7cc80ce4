"use strict";

// Makes the columns of tables sortable.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const text = header.dataset.kind === "text";
      const before = header.getAttribute("aria-sort");
      const up = before ? before === "descending" : text;
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(table.tBodies[0], column, text, up);
    });
  });
}

function sort(body, column, text, up) {
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (text) return up ? x.localeCompare(y) : y.localeCompare(x);
    if (x === "" || y === "") return (x === "") - (y === ""); // undefined scores stay last
    return up ? x - y : y - x;
  });
  body.append(...rows);
}

// A printed page shows what is folded on the screen.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

// Shows two chosen layers over each other; all of them stay below, side by side.
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
    slider.setAttribute("aria-valuetext", `${slider.value} per cent of the left image`);
  };
  slider.addEventListener("input", cut);
  show(left, first);
  show(right, second);
  cut();
  const controls = example.querySelector(".controls");
  controls.hidden = false;
  controls.after(stage);
}
