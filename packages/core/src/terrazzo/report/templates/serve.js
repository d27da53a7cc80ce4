"use strict";
// One image at a time. What is drawn over it is the mask, or one class above a threshold.
const at = (id) => document.getElementById(id);
const types = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", tif: "image/tiff", tiff: "image/tiff" };
let file = null;        // the chosen one
let turn = 0;           // number of the choice: late answers to an earlier one are dropped
let classes = [];
let probabilities = {}; // by train id: {width, height, values} of the image shown
let urls = [];

function typeOf(chosen) {
  return types[chosen.name.split(".").pop().toLowerCase()] || "application/octet-stream";
}

async function ask(query) {
  const headers = { "Content-Type": typeOf(file) };
  const response = await fetch("predict?" + query, { method: "POST", body: file, headers });
  if (response.ok) return response;
  const told = await response.json();
  throw Object.assign(new Error(told.error.problem), { told: told.error });
}

function urlOf(blob) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  return url;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function showError(error) {
  const told = error.told || { problem: "The server cannot be reached: " + error.message };
  at("error").querySelector("strong").textContent = (told.code ? told.code + ": " : "") + told.problem;
  const list = at("error").querySelector("dl");
  list.replaceChildren();
  for (const [key, title] of [["observed", "observed"], ["allowed", "allowed"], ["next_step", "next"]]) {
    if (!told[key]) continue;
    for (const [tag, text] of [["dt", title], ["dd", told[key]]]) {
      const element = document.createElement(tag);
      element.textContent = text;
      list.append(element);
    }
  }
  at("error").hidden = false;
  at("status").textContent = "";
}

async function choose(chosen) {
  const mine = ++turn;
  file = chosen;
  probabilities = {};
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  at("error").hidden = true;
  at("result").hidden = true;
  at("class").value = "";
  at("status").textContent = "Predicting " + file.name + " …";
  try {
    const found = await (await ask("format=json&mask=1")).json();
    const shown = typeOf(file) === "image/tiff" ? await (await ask("format=preview")).blob() : file;
    if (mine !== turn) return;
    at("image").src = urlOf(shown);
    at("image").alt = file.name;
    at("mask").src = at("save-mask").href = urlOf(new Blob([bytesOf(found.mask_png)], { type: "image/png" }));
    at("save-mask").download = file.name.replace(/\.[^.]*$/, "") + "_mask.png";
    await Promise.all([at("image").decode(), at("mask").decode()]);
    if (mine !== turn) return;
    classes = found.classes;
    at("stage").style.setProperty("--ratio", found.columns / found.rows);
    showLegend(found);
    at("remarks").textContent = found.remarks.join("\n");
    at("remarks").hidden = found.remarks.length === 0;
    at("result").hidden = false;
    at("status").textContent = file.name + ": " + found.columns + " × " + found.rows + " pixels";
    draw();
  } catch (error) {
    if (mine === turn) showError(error);
  }
}

function percent(share) {
  return (100 * share).toFixed(share > 0 && share < 0.1 ? 2 : 1) + " %";
}

function showLegend(found) {
  const rows = found.classes.map((each) => [each.name, each.colour, each.pixels, each.share]);
  rows.sort((one, other) => other[2] - one[2]);
  if (found.nodata) rows.push(["no data", "#000000", found.nodata, null]);
  at("legend").tBodies[0].replaceChildren(...rows.map(([name, colour, pixels, share]) => {
    const row = document.createElement("tr");
    const heading = document.createElement("th");
    heading.scope = "row";
    const box = document.createElement("span");
    box.className = "colour-box";
    box.style.background = colour;
    heading.append(box, name);
    const count = document.createElement("td");
    count.textContent = pixels.toLocaleString("en");
    const part = document.createElement("td");
    part.textContent = share === null ? "–" : percent(share);
    const bar = document.createElement("span");
    const filled = document.createElement("span");
    bar.className = "share";
    filled.style.width = 100 * (share || 0) + "%";
    bar.append(filled);
    part.append(bar);
    row.classList.toggle("absent-class", pixels === 0);
    row.append(heading, count, part);
    return row;
  }));
}

async function probabilityOf(id) {
  if (!probabilities[id]) {
    const picture = await createImageBitmap(await (await ask("format=probabilities&class=" + id)).blob(), { colorSpaceConversion: "none" });
    const canvas = document.createElement("canvas");
    canvas.width = picture.width;
    canvas.height = picture.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const rgba = context.getImageData(0, 0, picture.width, picture.height).data;
    const values = new Uint8Array(rgba.length / 4);
    for (let pixel = 0; pixel < values.length; pixel++) values[pixel] = rgba[4 * pixel];
    probabilities[id] = { width: picture.width, height: picture.height, values };
  }
  return probabilities[id];
}

async function draw() {
  const id = at("class").value, opacity = at("opacity").value, threshold = at("threshold").value;
  at("opacity-shown").textContent = opacity + " %";
  at("threshold-shown").textContent = threshold + " %";
  at("mask").style.opacity = at("probability").style.opacity = opacity / 100;
  at("threshold-setting").hidden = id === "";
  if (id === "") {
    at("mask").hidden = false;
    at("probability").hidden = true;
    return;
  }
  const mine = turn;
  let found;
  try {
    found = await probabilityOf(id);
  } catch (error) {
    if (mine === turn) showError(error);
    return;
  }
  if (mine !== turn || at("class").value !== id) return;
  const canvas = at("probability"), context = canvas.getContext("2d", { willReadFrequently: true });
  canvas.width = found.width;
  canvas.height = found.height;
  const shown = context.createImageData(found.width, found.height);
  const colour = parseInt(classes[id].colour.slice(1), 16);
  const least = 255 * at("threshold").value / 100;
  let above = 0;
  for (let pixel = 0; pixel < found.values.length; pixel++) {
    if (found.values[pixel] < least) continue;
    above++;
    shown.data.set([colour >> 16, colour >> 8 & 255, colour & 255, 255], 4 * pixel);
  }
  context.putImageData(shown, 0, 0);
  at("above").textContent = above.toLocaleString("en") + " pixels, " + percent(above / found.values.length) + " of the image";
  at("mask").hidden = true;
  canvas.hidden = false;
}

at("file").addEventListener("change", () => at("file").files.length && choose(at("file").files[0]));
at("drop").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["opacity", "class", "threshold"]) at(name).addEventListener("input", draw);
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
